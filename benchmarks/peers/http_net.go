// Go's net/http for benchmarks.http, which builds it: PORT [KEY CERTIFICATE]. Its paths are the shapes.
//
// Settings: Go's own, with GOMAXPROCS from the environment.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
)

var (
	hello = []byte("Hello, World!")
	block = make([]byte, 32768)

	// What serves in clear; http_h2c.go has another one.
	handler http.Handler = http.DefaultServeMux
)

type object struct {
	Message string `json:"message"`
}

func answer(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

func stream(size, count int) http.HandlerFunc {
	chunk := make([]byte, size)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		for i := 0; i < count; i++ {
			w.Write(chunk)
		}
	}
}

func body(then func(w http.ResponseWriter, body []byte)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		read, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		then(w, read)
	}
}

func main() {
	http.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { answer(w, hello) })
	http.HandleFunc("/echo", body(answer))
	http.HandleFunc("/json", func(w http.ResponseWriter, r *http.Request) {
		encoded, _ := json.Marshal(object{"Hello, World!"})
		answer(w, encoded)
	})
	http.HandleFunc("/loop", body(func(w http.ResponseWriter, _ []byte) {
		// The compiler keeps an empty loop.
		for i := 0; i < 100000; i++ {
		}
		answer(w, hello)
	}))
	http.HandleFunc("/digest", body(func(w http.ResponseWriter, _ []byte) {
		sum := sha256.Sum256(block)
		answer(w, []byte(hex.EncodeToString(sum[:])))
	}))
	http.HandleFunc("/stream64k", stream(16384, 4))
	http.HandleFunc("/stream10m", stream(65536, 160))
	address := "127.0.0.1:" + os.Args[1]
	if len(os.Args) > 2 {
		log.Fatal(http.ListenAndServeTLS(address, os.Args[3], os.Args[2], nil))
	}
	log.Fatal(http.ListenAndServe(address, handler))
}
