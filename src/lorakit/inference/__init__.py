"""A finished run or an adapter, opened as a session: predict, evaluate, generate, submit."""
