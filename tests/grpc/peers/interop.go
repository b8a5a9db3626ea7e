// grpc-go for the interop cases: "client" or "server". A line of JSON on its input is answered with one.
//
// The client is given {"case": NAME, "port": PORT, "count": CALLS, "probes": BOOL} and "ca", a file, for TLS; it answers
// {"error": TEXT}, empty where all is well. The server is given {} or {"key": FILE, "chain": FILE}: {"port": PORT}.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"time"

	pb "getty/interop"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	largeRequest, largeReply = 271828, 314159
	initial, trailing        = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
	special                  = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
)

var (
	requests = []int{27182, 8, 1828, 45904}
	replies  = []int{31415, 9, 2653, 58979}
)

type words struct {
	Case, Key, Chain, Ca string
	Port, Count          int
	Probes               bool
}

// check ends a case with what has failed.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(found, wanted interface{}) {
	if !reflect.DeepEqual(found, wanted) {
		panic(fmt.Errorf("%.300v is not %.300v", found, wanted))
	}
}

func fails(err error, code codes.Code, text ...string) {
	equal(status.Code(err), code)
	if len(text) > 0 {
		equal(status.Convert(err).Message(), text[0])
	}
}

func payload(size int) *pb.Payload { return &pb.Payload{Body: make([]byte, size)} }

func unary(size, replySize int) *pb.SimpleRequest {
	return &pb.SimpleRequest{ResponseSize: int32(replySize), Payload: payload(size)}
}

func output(size int, sizes ...int) *pb.StreamingOutputCallRequest {
	made := &pb.StreamingOutputCallRequest{Payload: payload(size)}
	for _, each := range sizes {
		made.ResponseParameters = append(made.ResponseParameters, &pb.ResponseParameters{Size: int32(each)})
	}
	return made
}

// The client

type client struct {
	pb.TestServiceClient
	context context.Context
	conn    *grpc.ClientConn
	words
}

func (c *client) large(request *pb.SimpleRequest, options ...grpc.CallOption) {
	reply, err := c.UnaryCall(c.context, request, options...)
	check(err)
	equal(reply.Payload.Body, make([]byte, largeReply))
}

func (c *client) duplex() pb.TestService_FullDuplexCallClient {
	stream, err := c.FullDuplexCall(c.context)
	check(err)
	return stream
}

func (c *client) sum(sizes []int, wanted int, isCompressed bool) {
	var options []grpc.CallOption
	if isCompressed {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	stream, err := c.StreamingInputCall(c.context, options...)
	check(err)
	for _, size := range sizes {
		request := &pb.StreamingInputCallRequest{Payload: payload(size)}
		if isCompressed {
			request.ExpectCompressed = &pb.BoolValue{Value: true}
		}
		check(stream.Send(request))
	}
	reply, err := stream.CloseAndRecv()
	check(err)
	equal(int(reply.AggregatedPayloadSize), wanted)
}

func (c *client) stream(request *pb.StreamingOutputCallRequest, sizes ...int) {
	stream, err := c.StreamingOutputCall(c.context, request)
	check(err)
	for _, size := range sizes {
		reply, err := stream.Recv()
		check(err)
		equal(len(reply.Payload.Body), size)
	}
	_, err = stream.Recv()
	equal(err, io.EOF)
}

func (c *client) clientCompressedUnary() {
	request := unary(largeRequest, largeReply)
	request.ExpectCompressed = &pb.BoolValue{Value: true}
	if c.Probes {
		_, err := c.UnaryCall(c.context, request)
		fails(err, codes.InvalidArgument)
	}
	c.large(request, grpc.UseCompressor(gzip.Name))
	request.ExpectCompressed.Value = false
	c.large(request)
}

func (c *client) clientCompressedStreaming() {
	if c.Probes {
		stream, err := c.StreamingInputCall(c.context)
		check(err)
		flag := &pb.BoolValue{Value: true}
		check(stream.Send(&pb.StreamingInputCallRequest{Payload: payload(requests[0]), ExpectCompressed: flag}))
		_, err = stream.CloseAndRecv()
		fails(err, codes.InvalidArgument)
	}
	c.sum([]int{requests[0], requests[3]}, 73086, true)
}

func (c *client) pingPong() {
	stream := c.duplex()
	for i, size := range requests {
		check(stream.Send(output(size, replies[i])))
		reply, err := stream.Recv()
		check(err)
		equal(len(reply.Payload.Body), replies[i])
	}
	check(stream.CloseSend())
	_, err := stream.Recv()
	equal(err, io.EOF)
}

func (c *client) emptyStream() {
	stream := c.duplex()
	check(stream.CloseSend())
	_, err := stream.Recv()
	equal(err, io.EOF)
}

func (c *client) customMetadata() {
	given := metadata.Pairs(initial, "test_initial_metadata_value", trailing, "\xab\xab\xab")
	c.context = metadata.NewOutgoingContext(c.context, given)
	var head, trailer metadata.MD
	c.large(unary(largeRequest, largeReply), grpc.Header(&head), grpc.Trailer(&trailer))
	equal(head[initial], given[initial])
	equal(trailer[trailing], given[trailing])
	stream := c.duplex()
	check(stream.Send(output(largeRequest, largeReply)))
	head, err := stream.Header()
	check(err)
	_, err = stream.Recv()
	check(err)
	check(stream.CloseSend())
	_, err = stream.Recv()
	equal(err, io.EOF)
	equal(head[initial], given[initial])
	equal(stream.Trailer()[trailing], given[trailing])
}

func (c *client) statusCodeAndMessage() {
	wanted := &pb.EchoStatus{Code: 2, Message: "test status message"}
	request := unary(0, 0)
	request.ResponseStatus = wanted
	_, err := c.UnaryCall(c.context, request)
	fails(err, codes.Unknown, wanted.Message)
	stream := c.duplex()
	check(stream.Send(&pb.StreamingOutputCallRequest{ResponseStatus: wanted}))
	check(stream.CloseSend())
	_, err = stream.Recv()
	fails(err, codes.Unknown, wanted.Message)
}

func (c *client) specialStatusMessage() {
	request := unary(0, 0)
	request.ResponseStatus = &pb.EchoStatus{Code: 2, Message: special}
	_, err := c.UnaryCall(c.context, request)
	fails(err, codes.Unknown, special)
}

func (c *client) cancelAfterBegin() {
	ctx, cancel := context.WithCancel(c.context)
	stream, err := c.StreamingInputCall(ctx)
	check(err)
	cancel()
	_, err = stream.CloseAndRecv()
	fails(err, codes.Canceled)
}

func (c *client) cancelAfterFirstResponse() {
	ctx, cancel := context.WithCancel(c.context)
	stream, err := c.FullDuplexCall(ctx)
	check(err)
	check(stream.Send(output(27182, 31415)))
	_, err = stream.Recv()
	check(err)
	cancel()
	_, err = stream.Recv()
	fails(err, codes.Canceled)
}

func (c *client) timeoutOnSleepingServer() {
	ctx, cancel := context.WithTimeout(c.context, time.Millisecond)
	defer cancel()
	stream, err := c.FullDuplexCall(ctx)
	if err == nil {
		// It may be too late already.
		stream.Send(output(27182))
		_, err = stream.Recv()
	}
	fails(err, codes.DeadlineExceeded)
}

func (c *client) concurrentLargeUnary() {
	ended := make(chan interface{})
	for i := 0; i < c.Count; i++ {
		go func() {
			defer func() { ended <- recover() }()
			c.large(unary(largeRequest, largeReply))
		}()
	}
	for i := 0; i < c.Count; i++ {
		if wrong := <-ended; wrong != nil {
			panic(wrong)
		}
	}
}

var cases = map[string]func(c *client){
	"empty_unary": func(c *client) {
		_, err := c.EmptyCall(c.context, &pb.Empty{})
		check(err)
	},
	"large_unary":                 func(c *client) { c.large(unary(largeRequest, largeReply)) },
	"client_compressed_unary":     (*client).clientCompressedUnary,
	"client_compressed_streaming": (*client).clientCompressedStreaming,
	"client_streaming":            func(c *client) { c.sum(requests, 74922, false) },
	"server_streaming":            func(c *client) { c.stream(output(0, replies...), replies...) },
	"ping_pong":                   (*client).pingPong,
	"empty_stream":                (*client).emptyStream,
	"custom_metadata":             (*client).customMetadata,
	"status_code_and_message":     (*client).statusCodeAndMessage,
	"special_status_message":      (*client).specialStatusMessage,
	"unimplemented_method": func(c *client) {
		_, err := c.UnimplementedCall(c.context, &pb.Empty{})
		fails(err, codes.Unimplemented)
	},
	"unimplemented_service": func(c *client) {
		_, err := pb.NewUnimplementedServiceClient(c.conn).UnimplementedCall(c.context, &pb.Empty{})
		fails(err, codes.Unimplemented)
	},
	"cancel_after_begin":          (*client).cancelAfterBegin,
	"cancel_after_first_response": (*client).cancelAfterFirstResponse,
	"timeout_on_sleeping_server":  (*client).timeoutOnSleepingServer,
	"concurrent_large_unary":      (*client).concurrentLargeUnary,
}

func run(given words) (answer map[string]interface{}) {
	defer func() {
		if wrong := recover(); wrong != nil {
			answer = map[string]interface{}{"error": fmt.Sprint(wrong)}
		}
	}()
	option := grpc.WithInsecure()
	if given.Ca != "" {
		secure, err := credentials.NewClientTLSFromFile(given.Ca, "localhost")
		check(err)
		option = grpc.WithTransportCredentials(secure)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := grpc.Dial(fmt.Sprintf("127.0.0.1:%d", given.Port), option)
	check(err)
	defer conn.Close()
	one, isThere := cases[given.Case]
	if !isThere {
		panic("no case " + given.Case)
	}
	one(&client{pb.NewTestServiceClient(conn), ctx, conn, given})
	return map[string]interface{}{"error": ""}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	do := run
	if os.Args[1] == "server" {
		do = serve
	}
	for lines.Scan() {
		var given words
		check(json.Unmarshal(lines.Bytes(), &given))
		check(answers.Encode(do(given)))
	}
}

// The server

type service struct {
	pb.UnimplementedTestServiceServer
}

func serve(given words) map[string]interface{} {
	var options []grpc.ServerOption
	if given.Key != "" {
		secure, err := credentials.NewServerTLSFromFile(given.Chain, given.Key)
		check(err)
		options = append(options, grpc.Creds(secure))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	server := grpc.NewServer(options...)
	pb.RegisterTestServiceServer(server, &service{})
	go server.Serve(listener)
	return map[string]interface{}{"port": listener.Addr().(*net.TCPAddr).Port}
}

func echo(ctx context.Context, header, trailer func(metadata.MD) error) error {
	given, _ := metadata.FromIncomingContext(ctx)
	if found := given[initial]; found != nil {
		if err := header(metadata.MD{initial: found}); err != nil {
			return err
		}
	}
	if found := given[trailing]; found != nil {
		return trailer(metadata.MD{trailing: found})
	}
	return nil
}

func asked(wanted *pb.EchoStatus) error {
	if wanted == nil {
		return nil
	}
	return status.Error(codes.Code(wanted.Code), wanted.Message)
}

func (*service) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) { return &pb.Empty{}, nil }

func (*service) UnaryCall(ctx context.Context, request *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	header := func(found metadata.MD) error { return grpc.SendHeader(ctx, found) }
	trailer := func(found metadata.MD) error { return grpc.SetTrailer(ctx, found) }
	if err := echo(ctx, header, trailer); err != nil {
		return nil, err
	}
	return &pb.SimpleResponse{Payload: payload(int(request.ResponseSize))}, asked(request.ResponseStatus)
}

type sender interface {
	Send(*pb.StreamingOutputCallResponse) error
}

func answer(request *pb.StreamingOutputCallRequest, stream sender) error {
	for _, each := range request.ResponseParameters {
		reply := &pb.StreamingOutputCallResponse{Payload: payload(int(each.Size))}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
	return asked(request.ResponseStatus)
}

func (*service) StreamingOutputCall(
	request *pb.StreamingOutputCallRequest, stream pb.TestService_StreamingOutputCallServer,
) error {
	return answer(request, stream)
}

func (*service) StreamingInputCall(stream pb.TestService_StreamingInputCallServer) error {
	sum := 0
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(request.Payload.Body)
	}
}

func (*service) FullDuplexCall(stream pb.TestService_FullDuplexCallServer) error {
	trailer := func(found metadata.MD) error { stream.SetTrailer(found); return nil }
	if err := echo(stream.Context(), stream.SendHeader, trailer); err != nil {
		return err
	}
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = answer(request, stream)
		}
		if err != nil {
			return err
		}
	}
}
