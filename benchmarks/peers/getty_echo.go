// Getty in Go as an echo server, for whoever has Go and wants to compare: a 4-byte little-endian length and a payload,
// as its users write it, with its log at warning level (at its default it logs every write, at half the rate).
//
// In a folder with this file:
//
//	go mod init echo && go get github.com/apache/dubbo-getty@v1.4.4 && go build
//
// For some hundred connections that open at once, set timerNodeQueueSize in time/timer.go of github.com/dubbogo/gost to
// 65536: with its 128 a full queue ends the server.
//
// And then, with that folder's path in place of FOLDER:
//
//	python -m benchmarks.getty FOLDER/echo
//	python -m benchmarks --server 'getty_go=FOLDER/echo {port}' --only getty_go,getty_tx,getty_fast --baseline getty_go
//
// After the port it takes tcp (the default), udp (one such frame a datagram) or ws (a WebSocket message, any path).
//
// Getty's newest sources are github.com/AlexStocks/getty. For them, import its package transport as getty, take
// SetLoggerLevel and LoggerLevelWarn from its package util, and write NewUDPEndPoint for NewUDPPEndPoint.
package main

import (
	"encoding/binary"
	"net"
	"os"
	"runtime"
	"time"

	getty "github.com/apache/dubbo-getty"
)

type codec struct{}

func (codec) Read(session getty.Session, data []byte) (interface{}, int, error) {
	if len(data) < 4 {
		return nil, 0, nil
	}
	end := 4 + int(binary.LittleEndian.Uint32(data))
	if len(data) < end {
		return nil, end, nil
	}
	// Getty uses the buffer again.
	return append([]byte(nil), data[4:end]...), end, nil
}

func (codec) Write(session getty.Session, pkg interface{}) ([]byte, error) {
	if datagram, ok := pkg.(getty.UDPContext); ok {
		pkg = datagram.Pkg
	}
	payload := pkg.([]byte)
	frame := make([]byte, 4, 4+len(payload))
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	return append(frame, payload...), nil
}

// A WebSocket message needs no length. Without a Reader, OnMessage gets its bytes.
type raw struct{}

func (raw) Write(session getty.Session, pkg interface{}) ([]byte, error) {
	return pkg.([]byte), nil
}

type listener struct{}

func (listener) OnOpen(getty.Session) error   { return nil }
func (listener) OnClose(getty.Session)        {}
func (listener) OnError(getty.Session, error) {}
func (listener) OnCron(getty.Session)         {}

func (listener) OnMessage(session getty.Session, pkg interface{}) {
	session.WritePkg(pkg, 0)
}

func newSession(session getty.Session) error {
	session.SetEventListener(listener{})
	session.SetPkgHandler(codec{})
	session.SetMaxMsgLen(128 * 1024)
	switch session.EndPoint().EndPointType() {
	case getty.WS_SERVER:
		session.SetReader(nil)
		session.SetWriter(raw{})
	case getty.UDP_ENDPOINT:
		// v1.4.4 reads nothing into a buffer above 64 KiB: this and 4 KiB.
		session.SetMaxMsgLen(60 * 1024)
	}
	if conn, ok := session.Conn().(*net.TCPConn); ok {
		conn.SetNoDelay(true)
	}
	// v1.4.4 moves a deadline on when a quarter of the time-out has passed, but compares seconds (Unix()) with
	// nanoseconds: connection.go, lines 242 and 272 (TCP), 393 and 440 (UDP), 565 (WebSocket). So it sets a deadline
	// once and never again, and its default of 1 s leaves a session silent after a second. With an hour it sets none.
	session.SetReadTimeout(time.Hour)
	session.SetWriteTimeout(time.Hour)
	return nil
}

func main() {
	// It is pinned to one core; more threads would only take turns there.
	runtime.GOMAXPROCS(1)
	getty.SetLoggerLevel(getty.LoggerLevelWarn)
	transport := "tcp"
	if len(os.Args) > 2 {
		transport = os.Args[2]
	}
	address := getty.WithLocalAddress("127.0.0.1:" + os.Args[1])
	var server getty.Server
	switch transport {
	case "tcp":
		server = getty.NewTCPServer(address)
	case "udp":
		server = getty.NewUDPPEndPoint(address)
	case "ws":
		server = getty.NewWSServer(address, getty.WithWebsocketServerPath("/"))
	default:
		panic("neither tcp, udp nor ws: " + transport)
	}
	server.RunEventLoop(newSession)
	select {}
}
