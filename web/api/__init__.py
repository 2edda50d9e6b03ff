"""REST for programs, and the MCP registry API."""

from __future__ import annotations

from web.api import registry, registry_publish, rest, rest_drafts, rest_judging, rest_manage, rest_reach

REST = (rest.router, rest_manage.router, rest_drafts.router, rest_judging.router, rest_reach.router)
REGISTRY = (*registry.routers(), *registry_publish.routers())
