"""The weak and strong models' learners: features, training, teachers and baselines."""
