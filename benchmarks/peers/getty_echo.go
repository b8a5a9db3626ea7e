// Getty in Go as an echo server, for whoever has Go and wants to compare: a 4-byte little-endian length and a payload,
// as its users write it, with its log at warning level (at its default it logs every write, at half the rate).
//
// In a folder with this file:
//
//	go mod init echo && go get github.com/apache/dubbo-getty && go build
//
// and then, with that folder's path in place of FOLDER:
//
//	python -m benchmarks --server 'getty_go=FOLDER/echo {port}' --only getty_go,getty_tx,getty_fast --baseline getty_go
package main

import (
	"encoding/binary"
	"net"
	"os"
	"runtime"

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
	payload := pkg.([]byte)
	frame := make([]byte, 4, 4+len(payload))
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	return append(frame, payload...), nil
}

type listener struct{}

func (listener) OnOpen(getty.Session) error   { return nil }
func (listener) OnClose(getty.Session)        {}
func (listener) OnError(getty.Session, error) {}
func (listener) OnCron(getty.Session)         {}

func (listener) OnMessage(session getty.Session, pkg interface{}) {
	session.WritePkg(pkg, 0)
}

func main() {
	// It is pinned to one core; more threads would only take turns there.
	runtime.GOMAXPROCS(1)
	getty.SetLoggerLevel(getty.LoggerLevelWarn)
	server := getty.NewTCPServer(getty.WithLocalAddress("127.0.0.1:" + os.Args[1]))
	server.RunEventLoop(func(session getty.Session) error {
		session.Conn().(*net.TCPConn).SetNoDelay(true)
		session.SetPkgHandler(codec{})
		session.SetEventListener(listener{})
		session.SetMaxMsgLen(128 * 1024)
		return nil
	})
	select {}
}
