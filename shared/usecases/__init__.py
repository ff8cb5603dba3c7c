"""What the functions do, one verb phrase a file, with ports as arguments."""
