"""Google's services as this machine serves them: a file or folder for each."""
