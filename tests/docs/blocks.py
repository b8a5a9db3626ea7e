"""Which tests run the blocks of code on the pages."""

from __future__ import annotations

__all__ = ["BLOCKS"]

#: Where blocks are run: by page, and by language for fenced ones; or why they are not.
BLOCKS = {
    "README.md": {"python": "test_commands", "indented": "test_commands, as far as that make has these targets"},
    "CONTRIBUTING.md": {"indented": "test_commands, as far as that make has these targets: they take minutes"},
    "commands.md": {"indented": "test_commands, and test_pages_in_browser for the console of a browser"},
    "from/asyncio.md": {"python": "test_pages, and test_commands with the asyncio reactor"},
    "from/autobahn.md": {"python": "test_pages"},
    "from/dubbo.md": {
        "sh": "test_pages",
        "text": "test_zookeeper_page",
        "yaml": "for dubbo-go",
    },
    "from/getty.md": {
        "python": "test_pages",
        "go": "for comparison; test_pages has gofmt read it, where there is one",
        "indented": "for whoever has built Getty",
    },
    "from/uvicorn.md": {"indented": "test_http_page, but for uvicorn's own"},
    "commands-http.md": {"indented": "test_http_page"},
    "commands-grpc.md": {"indented": "the command of tests/tap/test_grpc.py, with other options"},
    "commands-gateway.md": {"indented": "the commands of test_gateway_page, but for the engine"},
    "guide/http.md": {"python": "test_http_page"},
    "guide/http2.md": {"python": "test_http_page"},
    "guide/grpc.md": {"python": "test_grpc_page", "sh": "tests/tap/test_grpc.py"},
    "guide/grpc-client.md": {"python": "test_grpc_client_page"},
    "guide/grpc-services.md": {"python": "test_grpc_services_page"},
    "guide/registry.md": {"python": "test_registry_page"},
    "guide/groups.md": {"python": "test_groups_page"},
    "from/netpoll.md": {"python": "test_pages", "go": "for comparison, as in from/getty.md"},
    "guide.md": {"indented": "a picture"},
    **{f"guide/{name}.md": {"python": "test_calls_page"} for name in ("calls", "outliers", "streams")},
    **{
        f"guide/{name}.md": {"python": "test_guide"}
        for name in ("codecs", "services", "sessions", "status", "testing", "timers", "workers")
    },
    **{
        f"howto/{name}.md": {"python": "test_pages"}
        for name in (
            "asgi",
            "asyncio",
            "authentication",
            "codec",
            "files-wsgi",
            "reconnect",
            "testing",
            "websocket-on-http",
            "workers",
        )
    },
    "howto/gateway.md": {
        **dict.fromkeys(("toml", "python", "sh", "indented"), "test_gateway_page"),
        "js": "for a browser: tests/gateway/client.js does the same",
    },
    "howto/kitex.md": {
        **dict.fromkeys(("python", "text"), "test_pages"),
        "indented": "tests/rpc/test_main.py, with an IDL of its own",
    },
    "howto/grpc-calls.md": {"python": "test_grpc_page"},
    "howto/seata.md": {"python": "test_pages"},
    "howto/dubbo.md": {"python": "test_dubbo_page", "indented": "test_dubbo_page"},
    "howto/etcd.md": {
        "sh": "etcd's own commands: tests/registry/test_etcd_real.py gives the roles",
        "text": "test_etcd_page",
        "json": "test_etcd_page",
    },
    **{f"howto/{name}.md": {"python": "test_pages", "sh": "test_commands"} for name in ("limits", "tls")},
    "howto/processes.md": {"python": "test_pages", "indented": "test_commands"},
    "howto/proxies.md": dict.fromkeys(("sh", "haproxy", "nginx"), "test_proxies"),
    "howto/kubernetes.md": {
        "python": "test_registry_pages",
        "yaml": "Kubernetes reads it",
        "text": "Consul reads it",
        "indented": "test_registry_pages",
    },
    "howto/registry-one-machine.md": dict.fromkeys(("python", "toml", "indented"), "test_registry_pages"),
    "howto/systemd.md": {"ini": "test_commands", "sh": "test_commands"},
    "howto/zookeeper.md": {"sh": "test_pages", **dict.fromkeys(("json", "text"), "test_zookeeper_page")},
    "howto/redis.md": dict.fromkeys(("python", "sh", "text"), "test_redis_page"),
    "howto/tracing.md": {"python": "test_tracing_page"},
    **{
        f"inside/{name}.md": {"indented": "a picture"}
        for name in (
            "calls",
            "client",
            "dubbo",
            "groups",
            "groups-hub",
            "groups-redis",
            "index",
            "processes",
            "reactor",
            "registry",
            "seata",
            "session",
            "status",
            "transports",
            "workers",
        )
    },
    "topics/groups-speed.md": {"indented": "tests/benchmarks/test_groups.py reads the options: they take minutes"},
    "topics/grpc-speed.md": {"indented": "tests/benchmarks/test_grpc.py reads the options: they take minutes"},
    "topics/http-speed.md": {"indented": "tests/benchmarks/test_httpplot.py reads the options: they take minutes"},
    "topics/performance.md": {
        "sh": "test_commands, as far as that make has the target: it takes minutes",
        "indented": "tests/benchmarks/test_rpcplot.py reads the options: they take minutes",
    },
    **{
        f"topics/{name}.md": {"python": "test_pages"}
        for name in ("life", "ordering", "pressure", "rpc-wires", "security")
    },
    "tutorial-calls.md": dict.fromkeys(("sh", "python", "text"), "test_tutorial_calls"),
    "tutorial.md": {
        **dict.fromkeys(("sh", "python", "text"), "test_tutorial"),
        "html": "test_pages_in_browser",
    },
}
