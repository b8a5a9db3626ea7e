"""nginx with nchan: ``python groups_nchan.py PORT WIRE FOLDER``; see ``../groupload.c`` for what is sent.

nginx has to be there with its module (Debian: nginx, libnginx-mod-nchan). It is configured in FOLDER, and runs in this
process's place. Settings: one worker with a backlog of 4096, no log of accesses, connections that are kept as long as
they are used; members get what comes after they have. With ``deflate``, a publication is compressed once by nchan, and
the same bytes go to all; its level is nchan's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CONFIGURATION = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/pid;
error_log stderr error;
load_module {module};
events {{ worker_connections {files}; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_body_buffer_size 128k;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /member {{ nchan_subscriber websocket; nchan_channel_id room; nchan_subscriber_first_message newest; }}
    location = /pub {{ nchan_publisher; nchan_channel_id room; {deflate} }}
    location = /echo {{ return 200 '{{"do":"echo"}}'; }}
  }}
}}
"""

#: Where Debian has nginx's modules.
MODULE = "/usr/lib/nginx/modules/ngx_nchan_module.so"


def main(port: str, wire: str, folder: str) -> None:
    deflate = "nchan_deflate_message_for_websocket on;" if wire.endswith(":deflate") else ""
    text = CONFIGURATION.format(port=port, folder=folder, deflate=deflate, module=MODULE, files=20_000)
    path = Path(folder, f"nginx-{port}.conf")
    path.write_text(text)
    os.execlp("nginx", "nginx", "-p", folder, "-c", str(path), "-e", "stderr")


if __name__ == "__main__":
    main(*sys.argv[1:])
