"""Update and telemetry agent for a device."""
