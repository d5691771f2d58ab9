// The server against a site of its own, over loopback: deadlines, slow readers, drains. What the
// program does on top of it is tested from outside (tests/serve).
#include "serve/http/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>

namespace lode::serve {
namespace {

// GET /fast answers; POST /echo gives the body back; GET /flood streams without end; GET /silent is
// a stream that says nothing.
class TestSite : public Site {
 public:
  class Stream : public Exchange {
   public:
    Stream(TestSite* site, bool flood) : site_(site), flood_(flood) { ++site_->streams; }
    ~Stream() override { --site_->streams; }
    void Advance(Outlet* out) override {
      if (!out->begun()) out->Begin({.content_type = "text/event-stream"});
      while (flood_ && !out->full()) {
        out->Write(std::string(10000, 'x'));
        site_->flooded += 10000;
      }
    }
    void KeepAlive(Outlet* out) override {
      ++site_->kept_alive;
      out->Write(": here\n\n");
    }
    void Describe(Json*) const override {}

   private:
    TestSite* site_;
    bool flood_;
  };

  std::optional<HttpResponse> Admit(HttpRequest* request) override {
    if (request->path == "/refused") return HttpResponse{.status = 401, .body = "no"};
    return std::nullopt;
  }
  std::optional<HttpResponse> Quick(const HttpRequest& request) override {
    if (request.path == "/fast") return HttpResponse{.body = "fast"};
    return std::nullopt;
  }
  Reaction Handle(const HttpRequest& request, std::function<void()>) override {
    Reaction reaction;
    if (request.path == "/echo") {
      reaction.response.body = request.body;
    } else {
      reaction.exchange = std::make_unique<Stream>(this, request.path == "/flood");
    }
    return reaction;
  }
  HttpResponse Refuse(const HttpRequest&, int status, std::string_view reason) override {
    return {.status = status, .body = std::string(reason)};
  }
  void Decorate(const HttpRequest&, HttpResponse*) override {}
  void Finished(const Access& access) override {
    const std::lock_guard lock(mutex);
    statuses.push_back(access.status);
  }
  void Tick() override {}

  std::atomic<int> streams{0}, kept_alive{0};
  std::atomic<int64_t> flooded{0};
  std::mutex mutex;
  std::vector<int> statuses;
};

class Client {
 public:
  explicit Client(uint16_t port, int receive_bytes = 0) {
    socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (receive_bytes > 0) {
      ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  bool Send(const std::string& bytes) {
    return ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  // What comes within so many seconds, or until `until` was seen or the other side has closed.
  std::string Receive(double seconds, const std::string& until = "\n\n\n") {
    std::string received;
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (received.find(until) == std::string::npos && !closed_) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          end - std::chrono::steady_clock::now());
      pollfd wait = {socket_, POLLIN, 0};
      if (left.count() <= 0 || ::poll(&wait, 1, static_cast<int>(left.count())) <= 0) break;
      char buffer[4096];
      const ssize_t bytes = ::recv(socket_, buffer, sizeof(buffer), 0);
      closed_ = bytes <= 0;
      if (bytes > 0) received.append(buffer, static_cast<size_t>(bytes));
    }
    return received;
  }
  bool closed() const { return closed_; }

 private:
  int socket_;
  bool connected_ = false, closed_ = false;
};

constexpr std::chrono::seconds kSecond{1};

class ServerTest : public testing::Test {
 protected:
  void Start(ServerOptions options = {}) {
    options.port = 0;
    auto server = Server::Listen(options, &site_);
    ASSERT_TRUE(server.ok());
    server_ = std::move(*server);
    thread_ = std::thread([this] { server_->Run([this] { drained_ = true; }); });
  }
  void TearDown() override {
    if (server_ == nullptr) return;
    server_->Stop();
    server_->Stop();
    thread_.join();
    server_.reset();
    EXPECT_EQ(site_.streams, 0);
  }
  uint16_t port() const { return server_->port(); }
  template <typename Condition>
  static bool Eventually(Condition condition, double seconds = 5.0) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
  }

  TestSite site_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
  std::atomic<bool> drained_{false};
};

TEST_F(ServerTest, RequestsOnOneConnectionAreAnsweredInOrder) {
  Start();
  Client client(port());
  client.Send("POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\noneGET /fast HTTP/1.1\r\n\r\n");
  const std::string got = client.Receive(5, "fast");
  EXPECT_LT(got.find("\r\n\r\none"), got.find("\r\n\r\nfast"));
  EXPECT_EQ(got.substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(ServerTest, ARequestMayComeByteByByte) {
  Start();
  Client client(port());
  for (const char c : std::string("POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello")) {
    ASSERT_TRUE(client.Send(std::string(1, c)));
  }
  EXPECT_NE(client.Receive(5, "hello").find("hello"), std::string::npos);
}

TEST_F(ServerTest, SlowHeadsSlowBodiesAndIdleOnesAreClosed) {
  ServerOptions options;
  options.header_time = options.body_gap = options.idle_time = kSecond;
  Start(options);
  Client head(port()), body(port()), idle(port());
  head.Send("GET /fast HTTP/1.1\r\nX: ");
  body.Send("POST /echo HTTP/1.1\r\nContent-Length: 100\r\n\r\nsome");
  for (int i = 0; i < 8 && head.Send("y"); ++i) {  // it never stops, and is never done
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
  }
  EXPECT_NE(head.Receive(4).find("408"), std::string::npos);
  EXPECT_NE(body.Receive(4).find("408"), std::string::npos);
  EXPECT_EQ(idle.Receive(4), "");
  EXPECT_TRUE(head.closed() && body.closed() && idle.closed());
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0; }));
}

TEST_F(ServerTest, WhoDoesNotReadIsWrittenToNoMoreAndClosed) {
  ServerOptions options;
  options.write_gap = kSecond;
  Start(options);
  Client client(port(), 4096);
  client.Send("GET /flood HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(Eventually([&] { return site_.streams == 1; }));
  ASSERT_TRUE(Eventually([&] { return site_.streams == 0; }));
  EXPECT_LT(site_.flooded, 16 << 20);  // what buffers of the system hold
  EXPECT_EQ(site_.statuses.back(), 499);
}

TEST_F(ServerTest, AStreamThatSaysNothingIsKeptAlive) {
  ServerOptions options;
  options.keep_alive = kSecond;
  Start(options);
  Client client(port());
  client.Send("GET /silent HTTP/1.1\r\n\r\n");
  EXPECT_NE(client.Receive(5, ": here").find(": here"), std::string::npos);
  EXPECT_GE(site_.kept_alive, 1);
}

TEST_F(ServerTest, AStreamEndsWhenItsClientGoes) {
  Start();
  {
    Client client(port());
    client.Send("GET /silent HTTP/1.1\r\n\r\n");
    ASSERT_TRUE(Eventually([&] { return site_.streams == 1; }));
  }
  EXPECT_TRUE(Eventually([&] { return site_.streams == 0; }));
}

TEST_F(ServerTest, WhoIsRefusedNeedNotSendItsBody) {
  Start();
  Client client(port());
  client.Send("POST /refused HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_NE(client.Receive(5, "no").find("HTTP/1.1 401"), std::string::npos);
}

TEST_F(ServerTest, BodiesHaveABudgetInAll) {
  ServerOptions options;
  options.bodies_bytes_max = 1000;
  Start(options);
  Client first(port()), second(port());
  first.Send("POST /echo HTTP/1.1\r\nContent-Length: 900\r\n\r\n" + std::string(800, 'a'));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  second.Send("POST /echo HTTP/1.1\r\nContent-Length: 900\r\n\r\n" + std::string(800, 'b'));
  EXPECT_NE(second.Receive(5, "at once").find("HTTP/1.1 503"), std::string::npos);
  first.Send(std::string(100, 'a'));
  EXPECT_NE(first.Receive(5, "aaaa").find("HTTP/1.1 200"), std::string::npos);
}

TEST_F(ServerTest, AFullServerGivesUpWhoIsIdle) {
  ServerOptions options;
  options.connections_max = 2;
  Start(options);
  Client idle(port()), busy(port());
  busy.Send("GET /silent HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(Eventually([&] { return site_.streams == 1; }));
  Client third(port());
  third.Send("GET /fast HTTP/1.1\r\n\r\n");
  EXPECT_NE(third.Receive(5, "fast").find("fast"), std::string::npos);
  EXPECT_EQ(idle.Receive(5), "");
  EXPECT_TRUE(idle.closed());
  EXPECT_EQ(site_.streams, 1);
}

TEST_F(ServerTest, AThousandStreamsThatWaitTakeLittle) {
  Start();
  const auto resident = [] {
    long pages = 0;
    FILE* file = std::fopen("/proc/self/statm", "r");
    if (file != nullptr) {
      if (std::fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
      std::fclose(file);
    }
    return pages * ::sysconf(_SC_PAGESIZE);
  };
  const auto before = resident();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 400; ++i) {  // a thousand where there are descriptors for both ends
    clients.push_back(std::make_unique<Client>(port()));
    if (!clients.back()->connected()) break;
    clients.back()->Send("GET /silent HTTP/1.1\r\n\r\n");
  }
  ASSERT_TRUE(Eventually([&] { return site_.streams == static_cast<int>(clients.size()); }));
  EXPECT_LT(resident() - before, static_cast<long>(clients.size()) * 50'000);
}

TEST_F(ServerTest, StoppingWaitsForAnswersAndClosesTheIdle) {
  Start();
  Client idle(port()), busy(port());
  busy.Send("GET /silent HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(Eventually([&] { return site_.streams == 1; }));
  server_->Stop();
  EXPECT_EQ(idle.Receive(5), "");
  EXPECT_TRUE(idle.closed());
  EXPECT_TRUE(server_->draining());
  EXPECT_FALSE(drained_);
  EXPECT_EQ(site_.streams, 1);
  server_->Stop();
  EXPECT_TRUE(Eventually([&] { return drained_.load(); }));
}

}  // namespace
}  // namespace lode::serve
