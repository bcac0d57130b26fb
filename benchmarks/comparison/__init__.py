"""The paper's comparison on small models: what was measured, and what it says of its claims."""
