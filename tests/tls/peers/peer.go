// A peer that has Go's TLS, for tests/tls/test_go_peers.py: a server, or a client.
//
//	peer serve|dial FLAGS
//
// A server prints its port first. Each connection ends with a line of JSON that tells what became of it.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
)

var (
	address     = flag.String("address", "127.0.0.1:0", "of the server to dial")
	authority   = flag.String("authority", "", "PEM file of the authority that the peer's certificate is from")
	certificate = flag.String("certificate", "", "PEM file of the own certificate")
	key         = flag.String("key", "", "PEM file of its key")
	version     = flag.Int("version", tls.VersionTLS13, "of TLS")
	clients     = flag.Bool("clients", false, "clients have to show a certificate")
	name        = flag.String("name", "127.0.0.1", "that the server's certificate is for")
	count       = flag.Int("count", 1, "of connections, one after the other")
	does        = flag.String("does", "echo", "echo, halfClose, once, or abrupt")
)

// outcome is what a side tells of a connection.
type outcome struct {
	Version  uint16
	Resumed  bool
	Peer     string
	Messages int
	Bytes    int
	// Why it ended; empty: by a close_notify.
	Error string
}

// sizes of the messages that a client sends, and of the pieces, each a record, that they are written in.
var (
	sizes  = []int{1, 2, 100, 16384, 16385, 70001, 1 << 20}
	pieces = []int{1, 5, 1000, 16384, 16383, 7, 16384}
)

// message is a frame as LengthCodec has it, with bytes that tell where they belong.
func message(size int) []byte {
	data := binary.BigEndian.AppendUint32(nil, uint32(size))
	for i := 0; i < size; i++ {
		data = append(data, byte(i*31+i>>8))
	}
	return data
}

func writeInPieces(c *tls.Conn, data []byte) error {
	for i := 0; len(data) > 0; i++ {
		n := pieces[i%len(pieces)]
		if n > len(data) {
			n = len(data)
		}
		if _, err := c.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func text(err error) string {
	if err == nil || err == io.EOF {
		return ""
	}
	return err.Error()
}

func (o *outcome) begin(c *tls.Conn) {
	state := c.ConnectionState()
	o.Version, o.Resumed = state.Version, state.DidResume
	if len(state.PeerCertificates) > 0 {
		o.Peer = state.PeerCertificates[0].Subject.CommonName
	}
}

// serve answers frames with the same frames. With halfClose it ends its side after the first, answers nothing, and reads
// on; with once it ends after the first answer, with abrupt before it, without a close_notify.
func serve(raw net.Conn, config *tls.Config) (o outcome) {
	c := tls.Server(raw, config)
	defer raw.Close()
	if err := c.Handshake(); err != nil {
		o.Error = text(err)
		return
	}
	o.begin(c)
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(c, head); err != nil {
			o.Error = text(err)
			break
		}
		body := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(c, body); err != nil {
			o.Error = text(err)
			break
		}
		o.Messages++
		o.Bytes += len(body)
		if *does == "abrupt" {
			return
		}
		if *does == "halfClose" {
			if o.Messages == 1 {
				c.CloseWrite()
			}
		} else if err := writeInPieces(c, append(head, body...)); err != nil {
			o.Error = text(err)
			break
		} else if *does == "once" {
			break
		}
	}
	c.Close()
	return
}

// dial sends messages, and expects each of them back. With halfClose all are sent at once, and its side ends behind them;
// with abrupt it goes after the first, without a close_notify.
func dial(raw net.Conn, config *tls.Config) (o outcome) {
	c := tls.Client(raw, config)
	defer raw.Close()
	if err := c.Handshake(); err != nil {
		o.Error = text(err)
		return
	}
	o.begin(c)
	if *does == "halfClose" {
		done := make(chan error)
		go func() {
			for _, size := range sizes {
				if err := writeInPieces(c, message(size)); err != nil {
					done <- err
					return
				}
			}
			done <- c.CloseWrite()
		}()
		// The messages are larger than what the sockets and the server hold: it has to be read meanwhile.
		all, err := io.ReadAll(c)
		if sent := <-done; err == nil {
			err = sent
		}
		o.Error = text(err)
		for _, size := range sizes {
			if data := message(size); bytes.HasPrefix(all, data) {
				all = all[len(data):]
				o.Messages++
				o.Bytes += size
			}
		}
		if len(all) > 0 {
			o.Error = fmt.Sprintf("%d bytes more", len(all))
		}
		return
	}
	for _, size := range sizes {
		data := message(size)
		sent := make(chan error)
		go func() { sent <- writeInPieces(c, data) }()
		answer := make([]byte, len(data))
		_, err := io.ReadFull(c, answer)
		if failed := <-sent; err == nil {
			err = failed
		}
		if err == nil && !bytes.Equal(answer, data) {
			err = fmt.Errorf("message of %d bytes was altered", size)
		}
		if err != nil {
			o.Error = text(err)
			return
		}
		o.Messages++
		o.Bytes += size
		if *does == "abrupt" {
			return
		}
	}
	c.CloseWrite()
	_, err := io.Copy(io.Discard, c)
	o.Error = text(err)
	return
}

func main() {
	flag.CommandLine.Parse(os.Args[2:])
	config := &tls.Config{
		MinVersion: uint16(*version), MaxVersion: uint16(*version), ServerName: *name,
		DynamicRecordSizingDisabled: true, ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	if *authority != "" {
		data, err := os.ReadFile(*authority)
		if err != nil {
			panic(err)
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(data)
		config.ClientCAs = config.RootCAs
	}
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			panic(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if *clients {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	var port net.Listener
	if os.Args[1] == "serve" {
		var err error
		if port, err = net.Listen("tcp", *address); err != nil {
			panic(err)
		}
		fmt.Println(port.Addr().(*net.TCPAddr).Port)
	}
	for i := 0; i < *count; i++ {
		var o outcome
		if port != nil {
			raw, err := port.Accept()
			if err != nil {
				panic(err)
			}
			o = serve(raw, config)
		} else {
			raw, err := net.Dial("tcp", *address)
			if err != nil {
				panic(err)
			}
			o = dial(raw, config)
		}
		json.NewEncoder(os.Stdout).Encode(o)
	}
}
