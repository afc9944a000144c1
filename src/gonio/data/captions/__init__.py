"""Captions to train on: true sentences about materials, or a vision-language model's."""

from gonio.data.captions.exclusion import caption_outside, comparable
from gonio.data.captions.real import describe_real
from gonio.data.captions.templates import PREFIX, describe

__all__ = ["PREFIX", "caption_outside", "comparable", "describe", "describe_real"]
