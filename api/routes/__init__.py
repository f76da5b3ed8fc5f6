"""Ordinary routes: parse, ask the box office, render."""
