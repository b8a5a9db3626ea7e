// HTTP/2 in clear for http_net.go, which it is compiled with: Go's own library has that over TLS only.
package main

import (
	"net/http"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

func init() {
	handler = h2c.NewHandler(http.DefaultServeMux, &http2.Server{})
}
