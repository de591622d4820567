"""From a recipe and text files to a shard set: tasks for one machine or a job array, and their end."""
