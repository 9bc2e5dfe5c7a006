"""All that knows what a lane is, one of many trainings that run together."""
