"""`/openapi.json`, made of the schemas that validate, and `/docs`, where a browser tries it."""

from ridges_proxy.web.openapi.pages import openapi

__all__ = ["openapi"]
