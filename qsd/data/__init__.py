"""Preference data sets: readers, pair ids, images, and refused rows with their reasons."""
