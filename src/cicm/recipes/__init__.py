"""Recipes: named runs as data, loaded strictly."""

from cicm.recipes.recipe import Recipe, about, load_recipe, recipe_names
