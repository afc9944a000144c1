"""Prompt or photo -> material video: sampling a video model and making its output tile."""
