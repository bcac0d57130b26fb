"""Data to text: E2E, WebNLG 2017, DART and one's own inputs, with all their references."""
