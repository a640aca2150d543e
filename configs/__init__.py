"""What a pipeline is: the typed config, its loader, and the errors every layer raises."""
