#include "serve/http/transport.h"

#include <array>
#include <boost/asio/ssl/stream.hpp>
#include <utility>

namespace lode::serve {
namespace {

namespace asio = boost::asio;

class Plain : public Transport {
 public:
  Plain(StreamSocket socket, std::string* scratch) : socket_(std::move(socket)), scratch_(scratch) {
    ErrorCode ignored;
    socket_.non_blocking(true, ignored);
  }

  void Open(Opened done) override { done({}); }

  void ReadSome(Read done) override {
    socket_.async_wait(StreamSocket::wait_read, [this, done = std::move(done)](ErrorCode ec) {
      if (ec) return done(ec, {});
      const size_t bytes = socket_.read_some(asio::buffer(*scratch_), ec);
      if (ec == asio::error::would_block) return ReadSome(done);
      if (ec == asio::error::eof) return done({}, {});
      done(ec, std::string_view(*scratch_).substr(0, bytes));
    });
  }

  void WriteSome(std::string_view bytes, Wrote done) override {
    socket_.async_write_some(asio::buffer(bytes.data(), bytes.size()), std::move(done));
  }

  void FinishWriting() override {
    ErrorCode ignored;
    socket_.shutdown(StreamSocket::shutdown_send, ignored);
  }

  void Close() override {
    ErrorCode ignored;
    socket_.close(ignored);
  }

 private:
  StreamSocket socket_;
  std::string* scratch_;
};

class Tls : public Transport {
 public:
  Tls(StreamSocket socket, asio::ssl::context* context) : stream_(std::move(socket), *context) {}

  void Open(Opened done) override {
    stream_.async_handshake(asio::ssl::stream_base::server, std::move(done));
  }

  void ReadSome(Read done) override {
    stream_.async_read_some(
        asio::buffer(buffer_), [this, done = std::move(done)](ErrorCode ec, size_t bytes) {
          const bool end = ec == asio::error::eof || ec == asio::ssl::error::stream_truncated;
          if (end) return done({}, {});
          done(ec, std::string_view(buffer_.data(), bytes));
        });
  }

  void WriteSome(std::string_view bytes, Wrote done) override {
    stream_.async_write_some(asio::buffer(bytes.data(), bytes.size()), std::move(done));
  }

  void FinishWriting() override {
    ErrorCode ignored;
    stream_.next_layer().shutdown(StreamSocket::shutdown_send, ignored);
  }

  void Close() override {
    ErrorCode ignored;
    stream_.next_layer().close(ignored);
  }

 private:
  asio::ssl::stream<StreamSocket> stream_;
  std::array<char, 8192> buffer_;
};

}  // namespace

std::unique_ptr<Transport> PlainTransport(StreamSocket socket, std::string* scratch) {
  return std::make_unique<Plain>(std::move(socket), scratch);
}

std::unique_ptr<Transport> TlsTransport(StreamSocket socket, asio::ssl::context* context) {
  return std::make_unique<Tls>(std::move(socket), context);
}

}  // namespace lode::serve
