"""Labels from the files of other programs."""
