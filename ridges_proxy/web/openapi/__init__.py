"""The OpenAPI document, made from the request schemas, and a page that shows it."""

from ridges_proxy.web.openapi.pages import openapi

__all__ = ["openapi"]
