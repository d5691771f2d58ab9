// A connection's bytes, plain or under TLS, behind one face, so that what speaks HTTP is written
// and compiled once.
//
// A plain connection that waits owns no buffer: it waits until there is something and then reads
// into one that all share. Threads: the server's.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace lode::serve {

using ErrorCode = boost::system::error_code;
using StreamSocket = boost::asio::generic::stream_protocol::socket;  // TCP's, or in the file system

class Transport {
 public:
  using Opened = std::function<void(ErrorCode)>;
  using Read = std::function<void(ErrorCode, std::string_view)>;  // no error and nothing: the end
  using Wrote = std::function<void(ErrorCode, size_t)>;

  virtual ~Transport() = default;
  virtual void Open(Opened done) = 0;  // the handshake, where there is one
  // One of each at a time. What is written must stay until `done`; less than all may be.
  virtual void ReadSome(Read done) = 0;
  virtual void WriteSome(std::string_view bytes, Wrote done) = 0;
  virtual void FinishWriting() = 0;  // the other side sees the end
  virtual void Close() = 0;          // operations end with errors
};

// `scratch` is what all plain connections read into; it must outlive them.
std::unique_ptr<Transport> PlainTransport(StreamSocket socket, std::string* scratch);
std::unique_ptr<Transport> TlsTransport(StreamSocket socket,
                                        boost::asio::ssl::context* context);

}  // namespace lode::serve
