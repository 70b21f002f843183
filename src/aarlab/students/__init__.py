"""The student server: one trusted process that owns texts, models and a device.

Methods and AARs reach it over a unix socket by `client.py`, and hold neither a text nor a model.
"""
