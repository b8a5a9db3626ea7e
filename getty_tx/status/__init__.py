"""
The status of servers, pools and processes over HTTP: metrics, health, a table of sessions and a live page.

Applications make a ``StatusService``. A program that does not use it imports nothing of this package and measures
nothing. The modules, each of which imports only from those below it:

=================  ===================================================================================================
``service``        StatusService: listens, and puts the parts together
``feed``           the WebSocket of the live page
``port``           passes each connection to the web site or to the feed
``resources``      the web resources, and the rules of access
``metrics``        a snapshot as Prometheus metrics
``aggregate``      the source of a main process: queries its sub-reactors and merges their reports
``subreactor``     answers these queries in a sub-reactor
``merging``        encodes, decodes and merges snapshots
``paging``         reads one page of a table that is distributed over several processes
``source``         ISource, and the source for the sessions of this process
``sorting``        sorts the sessions of one process and caches the result
``sampler``        measures reactor lag, iterations, handlers and workers once a second
``handlertimes``   measures onMessage on some sessions
``methods``        the table of methods that are called
``table``          the columns of the table of sessions, and its pages
``groupwalk``      the walk over the groups of this process
``groups``         groups at one moment
``calls``          the counters of calls, which getty_tx.rpc keeps
``snapshot``       counters and gauges at one moment, and the walk over the sessions
``lasterrors``     the list of the last errors
``histogram``      counts times in buckets
``slices``         runs long work in short slices
``page/``          the files of the live page
=================  ===================================================================================================
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from getty_tx.status.service import DEFAULT_STATUS, StatusService

__all__ = ["DEFAULT_STATUS", "StatusService"]


def __getattr__(name: str) -> Any:
    # Imported on first use: a sub-reactor needs no web server, which takes 9 MB.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from getty_tx.status import service

    return getattr(service, name)
