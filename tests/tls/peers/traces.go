// Traces of Go's TLS, for tests/tls/test_go_traces.py: all bytes that one side of a connection puts on the wire.
//
//	go run tests/tls/peers/traces.go > tests/tls/peers/traces.json
//
// The bytes are the same in each run of one version of Go: keys, random numbers and the time are fixed. A trace is a
// list of flights: what is written until the other side is read again. Other versions may send other extensions.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"runtime"
	"time"
)

const host = "a.example"

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// stream is a source of numbers that are random to look at only.
type stream struct {
	seed  string
	count uint64
	left  []byte
}

func (s *stream) Read(p []byte) (int, error) {
	for i := range p {
		if len(s.left) == 0 {
			block := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(s.seed), s.count))
			s.count++
			s.left = block[:]
		}
		p[i], s.left = s.left[0], s.left[1:]
	}
	return len(p), nil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// issue makes a certificate; its key, and that of the authority, come from their names.
func issue(name string, serial int64, isAuthority bool) tls.Certificate {
	key := func(name string) ed25519.PrivateKey {
		_, key, err := ed25519.GenerateKey(&stream{seed: name})
		must(err)
		return key
	}
	template := func(name string, serial int64, isAuthority bool) *x509.Certificate {
		made := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(100, 0, 0),
			KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: isAuthority,
		}
		if isAuthority {
			made.KeyUsage = x509.KeyUsageCertSign
			id := sha256.Sum256([]byte(name))
			made.SubjectKeyId = id[:20]
		} else {
			made.DNSNames = []string{name}
			made.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		}
		return made
	}
	own := key(name)
	parent := template("Go Authority", 1, true)
	der, err := x509.CreateCertificate(&stream{}, template(name, serial, isAuthority), parent, own.Public(), key("Go Authority"))
	must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: own}
}

// recorder keeps what is written, in flights.
type recorder struct {
	net.Conn
	flights [][]byte
	isRead  bool
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.isRead = true
	return n, err
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.isRead || len(r.flights) == 0 {
		r.flights = append(r.flights, nil)
		r.isRead = false
	}
	last := len(r.flights) - 1
	r.flights[last] = append(r.flights[last], p...)
	return r.Conn.Write(p)
}

// connect has a client and a server of Go's talk, and returns what each has written. Errors are part of some traces.
func connect(clients, servers *tls.Config) (client, server [][]byte) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	defer port.Close()
	done := make(chan [][]byte)
	go func() {
		raw, err := port.Accept()
		must(err)
		end := &recorder{Conn: raw}
		c := tls.Server(end, servers)
		data := make([]byte, 5)
		if _, err := io.ReadFull(c, data); err == nil {
			c.Write(bytes.ToUpper(data))
			io.Copy(io.Discard, c)
		}
		c.Close()
		done <- end.flights
	}()
	raw, err := net.Dial("tcp", port.Addr().String())
	must(err)
	end := &recorder{Conn: raw}
	c := tls.Client(end, clients)
	if _, err := c.Write([]byte("hello")); err == nil {
		io.ReadFull(c, make([]byte, 5))
	}
	c.Close()
	server = <-done
	return end.flights, server
}

// records cuts the first flight into records whose bodies have that many bytes at most.
func records(flights [][]byte, size int) [][]byte {
	var cut []byte
	for data := flights[0]; len(data) > 0; {
		length := 5 + int(binary.BigEndian.Uint16(data[3:]))
		for body := data[5:length]; len(body) > 0; {
			n := size
			if n > len(body) {
				n = len(body)
			}
			cut = binary.BigEndian.AppendUint16(append(cut, data[:3]...), uint16(n))
			cut = append(cut, body[:n]...)
			body = body[n:]
		}
		data = data[length:]
	}
	return [][]byte{cut}
}

// header replaces the version, or the length, that the first record says it has.
func header(flights [][]byte, at int, value uint16) [][]byte {
	changed := append([]byte(nil), flights[0]...)
	binary.BigEndian.PutUint16(changed[at:], value)
	return [][]byte{changed}
}

func main() {
	authority := issue("Go Authority", 1, true)
	roots := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(authority.Certificate[0])
	must(err)
	roots.AddCert(parsed)
	clients, servers := map[string][][]byte{}, map[string][][]byte{}

	// run has the configurations changed, and keeps both traces by a name.
	run := func(name string, change func(client, server *tls.Config)) {
		client := &tls.Config{
			Rand: &stream{seed: name + " client"}, Time: func() time.Time { return now }, RootCAs: roots, ServerName: host,
			DynamicRecordSizingDisabled: true,
		}
		server := &tls.Config{
			Rand: &stream{seed: name + " server"}, Time: func() time.Time { return now }, ClientCAs: roots,
			Certificates: []tls.Certificate{issue(host, 2, false)}, DynamicRecordSizingDisabled: true,
		}
		server.SetSessionTicketKeys([][32]byte{sha256.Sum256([]byte("tickets"))})
		change(client, server)
		clients[name], servers[name] = connect(client, server)
		if client.ClientSessionCache != nil {
			clients[name], servers[name] = connect(client, server)
		}
	}
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		version := version
		only := func(more func(client, server *tls.Config)) func(client, server *tls.Config) {
			return func(client, server *tls.Config) {
				client.MinVersion, client.MaxVersion, server.MaxVersion = version, version, version
				more(client, server)
			}
		}
		run(name, only(func(client, server *tls.Config) {}))
		run(name+" alpn", only(func(client, server *tls.Config) {
			client.NextProtos, server.NextProtos = []string{"echo/2", "echo/1"}, []string{"echo/2"}
		}))
		run(name+" sni", only(func(client, server *tls.Config) {
			client.ServerName = "b.example"
			server.Certificates = []tls.Certificate{issue("b.example", 3, false)}
		}))
		run(name+" resumed", only(func(client, server *tls.Config) {
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}))
		run(name+" certificate", only(func(client, server *tls.Config) {
			client.Certificates = []tls.Certificate{issue("me", 4, false)}
			server.ClientAuth = tls.RequireAndVerifyClientCert
		}))
	}
	// The server's random number tells that it would have spoken a newer version.
	run("downgraded", func(client, server *tls.Config) {
		client.MaxVersion = tls.VersionTLS12
	})
	run("1.1", func(client, server *tls.Config) {
		client.MinVersion, client.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	})
	run("no common cipher", func(client, server *tls.Config) {
		client.MaxVersion = tls.VersionTLS12
		client.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
		server.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	})
	run("no common protocol", func(client, server *tls.Config) {
		client.MaxVersion = tls.VersionTLS12
		client.NextProtos, server.NextProtos = []string{"other"}, []string{"echo/2"}
	})
	run("no common version", func(client, server *tls.Config) {
		client.MinVersion, server.MaxVersion = tls.VersionTLS13, tls.VersionTLS12
	})
	run("unknown authority", func(client, server *tls.Config) {
		client.MaxVersion, client.RootCAs = tls.VersionTLS12, x509.NewCertPool()
	})
	run("retry", func(client, server *tls.Config) {
		server.CurvePreferences = []tls.CurveID{tls.CurveP384}
	})
	alter := func(traces map[string][][]byte, version string) {
		whole := traces[version]
		traces[version+" in tiny records"] = records(whole, 1)
		traces[version+" with a wrong version"] = header(whole, 1, 0x0202)
		traces[version+" with a long record"] = header(whole, 3, 1<<14+2049)
	}
	alter(clients, "1.2")
	alter(clients, "1.3")
	// Only the first record of a server's flight is in clear in TLS 1.3.
	alter(servers, "1.2")

	inHex := func(traces map[string][][]byte) map[string][]string {
		all := map[string][]string{}
		for name, flights := range traces {
			for _, flight := range flights {
				all[name] = append(all[name], hex.EncodeToString(flight))
			}
		}
		return all
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	must(out.Encode(map[string]any{
		"made by": runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH, "client": inHex(clients), "server": inHex(servers),
		"authority": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate[0]})),
	}))
}
