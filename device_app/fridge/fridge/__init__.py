"""The refrigerator's control loop and panel."""
