"""Collector of usage and crashes from an Event Hubs-compatible endpoint."""
