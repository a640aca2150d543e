"""Other ways to serve the same model, each as its own documentation shows it; started as scripts."""
