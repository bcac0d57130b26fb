"""What training minimises: the model's own loss, or one of two passes over a batch."""
