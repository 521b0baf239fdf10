"""The place where a sweep is to run: is all there that it needs?"""
