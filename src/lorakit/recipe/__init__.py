"""Recipes: a YAML file becomes one checked value that says what is trained, on what, and how.

`load_recipe` and `with_settings` give a mapping, `from_mapping` a checked `Recipe`.
"""

from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.recipe.yaml_file import load_recipe, to_yaml, with_settings

__all__ = ["Recipe", "from_mapping", "load_recipe", "to_yaml", "with_settings"]
