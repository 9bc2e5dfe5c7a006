"""All that knows what a lane is, one of many trainings that run together: a rule over lanes, a model's step, the loop, the training."""
