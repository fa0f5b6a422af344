"""A local server that speaks Azure IoT Hub's protocols."""
