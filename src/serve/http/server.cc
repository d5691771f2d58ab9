#include "serve/http/server.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstring>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "serve/http/connection.h"

namespace lode::serve {

namespace asio = boost::asio;
using asio::ip::tcp;

struct Server::State : ServerCore {
  asio::basic_socket_acceptor<asio::generic::stream_protocol> acceptor{io};
  std::string socket_path;  // to be removed at the end
  std::unique_ptr<asio::ssl::context> tls;
  asio::steady_timer timer{io};
  asio::signal_set signals{io};
  std::function<void()> drained;
  std::chrono::steady_clock::time_point drain_start, told_at;
  int stops = 0;      // how often Stop was called
  bool told = false;  // `drained` was called

  void Accept();
  Result<void> Bind();
  Result<void> BindPath(const std::string& path);
  void Take(StreamSocket socket);
  void Tick();
  void ArmTimer(std::chrono::milliseconds after);
  void AwaitSignal();
  void BeginStop();
  void GoOnStopping();
};

namespace {

Result<std::unique_ptr<asio::ssl::context>> MakeTls(const ServerOptions& options) {
  std::unique_ptr<asio::ssl::context> context;
  if (options.certificate_file.empty() && options.key_file.empty()) return context;
  if (options.certificate_file.empty() || options.key_file.empty()) {
    return Error(Code::kBadInput, "TLS needs a certificate and its key", "give both files");
  }
  context = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  ErrorCode ec;
  context->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                           asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 |
                           asio::ssl::context::no_tlsv1_1,
                       ec);
  context->use_certificate_chain_file(options.certificate_file, ec);
  if (ec) return Error(Code::kBadInput, options.certificate_file + ": " + ec.message());
  context->use_private_key_file(options.key_file, asio::ssl::context::pem, ec);
  if (ec) return Error(Code::kBadInput, options.key_file + ": " + ec.message());
  if (options.client_ca_file.empty()) return context;
  context->load_verify_file(options.client_ca_file, ec);
  if (ec) return Error(Code::kBadInput, options.client_ca_file + ": " + ec.message());
  context->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert, ec);
  // Without a name for its sessions OpenSSL refuses to resume those of verified clients.
  SSL_CTX_set_session_id_context(context->native_handle(),
                                 reinterpret_cast<const unsigned char*>("lode"), 4);
  return context;
}

constexpr std::string_view kUnix = "unix:";

// The address of one side, where that is TCP's.
std::optional<tcp::endpoint> AddressOf(const asio::generic::stream_protocol::endpoint& endpoint) {
  const int family = endpoint.protocol().family();
  tcp::endpoint address;
  if ((family != AF_INET && family != AF_INET6) || endpoint.size() > address.capacity()) {
    return std::nullopt;
  }
  std::memcpy(address.data(), endpoint.data(), endpoint.size());
  address.resize(endpoint.size());
  return address;
}

std::string RandomPrefix() {
  std::random_device device;
  return Format("req_%08x", device());
}

}  // namespace

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<Server>> Server::Listen(const ServerOptions& options, Site* site) {
  auto state = std::make_unique<State>();
  state->options = options;
  state->site = site;
  state->id_prefix = RandomPrefix();
  LODE_ASSIGN(state->tls, MakeTls(options));
  if (!options.client_ca_file.empty() && state->tls == nullptr) {
    return Error(Code::kBadInput, "certificates of clients need TLS",
                 "give --tls-cert and --tls-key, too");
  }
  LODE_TRY(state->Bind());
  state->workers =
      std::make_unique<asio::thread_pool>(static_cast<size_t>(std::max(1, options.workers)));
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

// A socket in the file system: whoever may open it may come in.
Result<void> Server::State::BindPath(const std::string& path) {
  asio::local::stream_protocol::endpoint endpoint;
  if (path.empty() || path.size() >= endpoint.capacity() - sizeof(sa_family_t)) {
    return Error(Code::kBadInput, "--host unix:" + path + " is no path for a socket",
                 "it must be short: 1 to 100 bytes");
  }
  endpoint.path(path);
  ErrorCode ec;
  struct stat info = {};
  if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) {
    asio::local::stream_protocol::socket probe(io);
    probe.connect(endpoint, ec);
    if (ec) ::unlink(path.c_str());  // nobody is there any more
  }
  const asio::generic::stream_protocol::endpoint any(endpoint);
  acceptor.open(any.protocol(), ec = {});
  const mode_t before = ::umask(0177);
  if (!ec) acceptor.bind(any, ec);
  ::umask(before);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) return Error(Code::kNoSpace, "cannot listen on " + path + ": " + ec.message());
  socket_path = path;
  return {};
}

Result<void> Server::State::Bind() {
  if (options.host.starts_with(kUnix)) return BindPath(options.host.substr(kUnix.size()));
  ErrorCode ec;
  const std::string host = options.host == "localhost" ? "127.0.0.1" : options.host;
  const auto address = asio::ip::make_address(host, ec);
  if (ec) {
    return Error(Code::kBadInput, "--host " + Quote(options.host) + " is no address",
                 "take 127.0.0.1, ::1, 0.0.0.0 or another address of this machine");
  }
  const asio::generic::stream_protocol::endpoint endpoint(tcp::endpoint(address, options.port));
  acceptor.open(endpoint.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(endpoint, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) {
    return Error(
        Code::kNoSpace,
        Format("cannot listen on %s port %d: ", host.c_str(), int{options.port}) + ec.message(),
        "--port 0 takes any that is free");
  }
  return {};
}

Server::~Server() {
  state_->workers->join();
  std::vector<std::shared_ptr<Connection>> left(state_->connections.begin(),
                                                state_->connections.end());
  for (const auto& connection : left) connection->Quit(true);
  left.clear();
  // Operations that were given up end now, and let go of their connections.
  state_->io.restart();
  state_->io.poll();
  if (!state_->socket_path.empty()) ::unlink(state_->socket_path.c_str());
}

uint16_t Server::port() const {
  ErrorCode ignored;
  const auto address = AddressOf(state_->acceptor.local_endpoint(ignored));
  return address ? address->port() : uint16_t{0};
}

void Server::CatchSignals() {
  state_->signals.add(SIGINT);
  state_->signals.add(SIGTERM);
  state_->AwaitSignal();
}

void Server::Run(const std::function<void()>& drained) {
  state_->drained = drained;
  state_->Accept();
  state_->ArmTimer(std::chrono::seconds(1));
  state_->io.run();
}

void Server::Stop() {
  asio::post(state_->io, [state = state_.get()] { state->BeginStop(); });
}

bool Server::draining() const { return state_->draining; }
size_t Server::connections() const { return state_->open; }
size_t Server::busy() const { return state_->busy; }

void Server::State::Accept() {
  acceptor.async_accept([this](ErrorCode ec, StreamSocket socket) {
    if (ec == asio::error::operation_aborted || !acceptor.is_open()) return;
    if (!ec) Take(std::move(socket));
    if (!ec) return Accept();
    // Out of descriptors, most likely: a moment later there may be one.
    const auto pause = std::make_shared<asio::steady_timer>(io, std::chrono::milliseconds(100));
    pause->async_wait([this, pause](ErrorCode) {
      if (acceptor.is_open()) Accept();
    });
  });
}

void Server::State::Take(StreamSocket socket) {
  if (connections.size() >= options.connections_max) {
    const auto idle =
        std::min_element(connections.begin(), connections.end(), [](const auto& a, const auto& b) {
          return a->idle() != b->idle() ? a->idle() : a->since() < b->since();
        });
    if (idle == connections.end() || !(*idle)->idle()) return;  // the socket closes
    const std::shared_ptr<Connection> victim = *idle;
    victim->Quit(true);
  }
  ErrorCode ec;
  const auto address = AddressOf(socket.remote_endpoint(ec));
  if (address) socket.set_option(tcp::no_delay(true), ec);
  std::string remote = address ? address->address().to_string(ec) : "";
  auto transport = tls != nullptr ? TlsTransport(std::move(socket), tls.get())
                                  : PlainTransport(std::move(socket), &scratch);
  const auto connection =
      std::make_shared<Connection>(this, std::move(transport), std::move(remote));
  connections.insert(connection);
  connection->Start();
}

void Server::State::ArmTimer(std::chrono::milliseconds after) {
  timer.expires_after(after);
  timer.async_wait([this](ErrorCode ec) {
    if (!ec) Tick();
  });
}

void Server::State::Tick() {
  const auto now = std::chrono::steady_clock::now();
  const std::vector<std::shared_ptr<Connection>> all(connections.begin(), connections.end());
  for (const auto& connection : all) connection->Tick(now);
  site->Tick();
  if (draining) return GoOnStopping();
  ArmTimer(std::chrono::seconds(1));
}

void Server::State::AwaitSignal() {
  signals.async_wait([this](ErrorCode ec, int) {
    if (ec) return;
    BeginStop();
    AwaitSignal();
  });
}

// New requests are still taken in and refused by the site, for a port that is closed tells a
// balancer less than an answer does.
void Server::State::BeginStop() {
  if (++stops == 1) {
    draining = true;
    drain_start = std::chrono::steady_clock::now();
    const std::vector<std::shared_ptr<Connection>> all(connections.begin(), connections.end());
    for (const auto& connection : all) connection->Quit(false);
  }
  GoOnStopping();
}

void Server::State::GoOnStopping() {
  const auto waited = std::chrono::steady_clock::now() - drain_start;
  const bool over = stops > 1 || waited >= options.drain_time;
  if ((busy == 0 || over) && !told) {
    told = true;
    told_at = std::chrono::steady_clock::now();
    if (drained) drained();
  }
  constexpr std::chrono::seconds kLastWords{2};
  const bool said = told && std::chrono::steady_clock::now() - told_at > kLastWords;
  if (busy == 0 || said || stops > 2) {
    acceptor.close();
    signals.cancel();
    timer.cancel();
    io.stop();
    return;
  }
  ArmTimer(std::chrono::milliseconds(50));
}

}  // namespace lode::serve
