"""What is learned: columns of a table become examples, predictions become scores."""
