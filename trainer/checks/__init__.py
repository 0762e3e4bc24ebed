"""What can be wrong with a job, told before anything loads."""
