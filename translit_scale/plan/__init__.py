"""What a training needs before it starts: memory, traffic, time, disk, and preparation."""
