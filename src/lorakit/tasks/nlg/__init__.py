"""Data to text: E2E, WebNLG 2017, DART and your own data, with all their references."""
