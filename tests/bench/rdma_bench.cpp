// Moves memory between two processes by RDMA as a migration does, and beside it perftest's ib_write_bw, which moves
// nothing in particular and checks nothing. For a machine with an RDMA device: see rdma_bench.py.
//
//   rdma_bench --address ADDRESS [--gid N] [--device NAME] [--rounds N] [--writes N] [--bytes N]

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <thread>

#include <CLI/CLI.hpp>
#include <arpa/inet.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rdma/buffer.hpp"
#include "rdma/checksum.hpp"
#include "rdma/verbs_port.hpp"

namespace varve::bench {

namespace {

using clock = std::chrono::steady_clock;

constexpr size_t block = 4096;
/// Chunks on their way, each to a place of its own at the sink.
constexpr size_t window = 8;
/// Of the source; more than processors keep at hand.
constexpr size_t source_bytes = 64u << 20;

void must(bool holds, const std::string& what) {
  if (!holds)
    throw std::runtime_error(what);
}

/// In what RDMA calls back, where nothing may be thrown.
void must_or_end(bool holds, const std::string& what) noexcept {
  if (holds)
    return;
  std::cerr << "rdma_bench: " << what << "\n";
  std::_Exit(1);
}

struct settings {
  std::string address, device;
  int gid = -1;
  unsigned rounds = 5;
  unsigned writes = 100;
  size_t bytes = 1u << 20;
  uint16_t port = 0; // of the sink, for the source
};

sockaddr_in at(const settings& x) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(x.port);
  must(::inet_pton(AF_INET, x.address.c_str(), &result.sin_addr) == 1, "--address: not an IPv4 address: " + x.address);
  return result;
}

/// One process's end of the transfer.
class peer : public verbs_link::user {
public:
  explicit peer(const settings& x) : settings_(x) {
    std::string problem;
    port_ = verbs_port::open(problem);
    must(port_ != nullptr, problem);
    options_.message_bytes_max = static_cast<uint32_t>(sizeof(uint64_t) + x.bytes / block * sizeof(uint32_t) + 64);
  }
  /// Its link is gone by then: the memory that the device uses is its heirs'.
  virtual ~peer() = default;

  void run() {
    while (!over_) {
      pollfd fd{port_->descriptor(), POLLIN, 0};
      ::poll(&fd, 1, 1000);
      port_->step();
    }
  }
  void ended(verbs_link&, const std::string& why) override {
    over_ = true;
    why_ = why;
  }

protected:
  template <class T>
  void say(const T& x) {
    must_or_end(link_->send(std::as_bytes(std::span{&x, 1})), "no room for a message");
  }

  const settings settings_;
  std::unique_ptr<verbs_port> port_;
  verbs_options options_;
  std::unique_ptr<verbs_link> link_;
  bool over_ = false;
  std::string why_;
};

/// Tells where it may be written to; checks what it is told has come, where it lies, and says so.
class sink final : public peer {
public:
  explicit sink(const settings& x) : peer(x), memory_(window * x.bytes) {
    std::string problem;
    const auto where = at(x);
    number_ = port_->listen(
      reinterpret_cast<const sockaddr*>(&where),
      [this](verbs_request& request) {
        std::string problem;
        link_ = request.accept(*this, options_, problem);
        must_or_end(link_ != nullptr, problem);
      },
      problem);
    must(number_ != 0, problem);
  }
  ~sink() override { link_.reset(); }
  uint16_t number() const noexcept { return number_; }
  uint64_t wrong() const noexcept { return wrong_; }

  void connected(verbs_link& on) override {
    std::error_code refused;
    landing_ = on.register_memory(memory_.bytes(), verbs_access::peer_writes, refused);
    must_or_end(!landing_.empty(), refused.message());
    say(landing_.remote());
  }
  void received(verbs_link&, std::span<const std::byte> message) override {
    uint64_t place = 0;
    std::memcpy(&place, message.data(), sizeof place);
    const auto* sums = message.data() + sizeof place;
    for (size_t i = 0; i < settings_.bytes / block; ++i) {
      uint32_t sum = 0;
      std::memcpy(&sum, sums + i * sizeof sum, sizeof sum);
      wrong_ += crc32c(memory_.bytes().subspan(place * settings_.bytes + i * block, block)) != sum;
    }
    say(wrong_ << 32 | place);
  }

private:
  buffer memory_;
  verbs_region landing_;
  uint16_t number_ = 0;
  uint64_t wrong_ = 0;
};

/// Writes chunk after chunk of its memory with the sums that are stored beside it.
class source final : public peer {
public:
  explicit source(const settings& x) : peer(x), memory_(source_bytes), sums_(source_bytes / block) {
    std::mt19937_64 random{1};
    for (size_t i = 0; i < source_bytes; i += sizeof(uint64_t)) {
      const auto word = random();
      std::memcpy(memory_.data() + i, &word, sizeof word);
    }
    for (size_t i = 0; i < sums_.size(); ++i)
      sums_[i] = crc32c(memory_.bytes().subspan(i * block, block));
    for (auto& w : writes_)
      w.complete = [](verbs_write& w) { must_or_end(!w.status, "a write: " + w.status.message()); };
    std::string problem;
    const auto where = at(x);
    link_ = port_->connect(reinterpret_cast<const sockaddr*>(&where), {}, *this, options_, problem);
    must(link_ != nullptr, problem);
  }
  ~source() override { link_.reset(); }

  void connected(verbs_link& on) override {
    std::error_code refused;
    own_ = on.register_memory(memory_.bytes(), verbs_access::local, refused);
    must_or_end(!own_.empty(), refused.message());
  }
  void received(verbs_link& on, std::span<const std::byte> message) override {
    if (message.size() == sizeof(remote_memory)) {
      std::memcpy(&to_, message.data(), sizeof to_);
      began_ = clock::now();
      for (uint64_t i = 0; i < std::min<uint64_t>(window, settings_.writes); ++i)
        move(i);
      return;
    }
    uint64_t answer = 0;
    std::memcpy(&answer, message.data(), sizeof answer);
    wrong_ = answer >> 32;
    moved_ += settings_.bytes;
    took_ = std::chrono::duration<double>(clock::now() - began_).count();
    --under_way_;
    if (begun_ < settings_.writes)
      move(answer & 0xffffffff);
    else if (under_way_ == 0)
      on.end("done");
  }

  nlohmann::json figures() const {
    must(why_ == "done", why_);
    return {{"bytes", moved_}, {"seconds", took_}, {"wrong", wrong_}};
  }

private:
  void move(uint64_t place) {
    auto& w = writes_[place];
    w.from = std::as_const(memory_).bytes().subspan(next_, settings_.bytes);
    w.of = &own_;
    w.to = to_;
    w.to_offset = place * settings_.bytes;
    link_->write(w);
    std::vector<std::byte> message(sizeof place + settings_.bytes / block * sizeof(uint32_t));
    std::memcpy(message.data(), &place, sizeof place);
    std::memcpy(message.data() + sizeof place, sums_.data() + next_ / block, message.size() - sizeof place);
    must_or_end(link_->send(message), "no room for a message");
    next_ = (next_ + settings_.bytes) % source_bytes;
    ++under_way_;
    ++begun_;
  }

  buffer memory_;
  std::vector<uint32_t> sums_;
  verbs_region own_;
  remote_memory to_;
  std::array<verbs_write, window> writes_;
  size_t next_ = 0;
  uint64_t begun_ = 0, under_way_ = 0, moved_ = 0, wrong_ = 0;
  clock::time_point began_;
  double took_ = 0;
};

/// Runs `f` in a new program of this one's, with its output in a pipe.
FILE* start(const std::vector<std::string>& args, pid_t& child) {
  int ends[2];
  must(::pipe(ends) == 0, "pipe");
  child = ::fork();
  must(child >= 0, "fork");
  if (child == 0) {
    ::dup2(ends[1], 1);
    ::close(ends[0]);
    std::vector<char*> argv;
    argv.reserve(args.size() + 1);
    for (const auto& x : args)
      argv.push_back(const_cast<char*>(x.c_str()));
    argv.push_back(nullptr);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  return ::fdopen(ends[0], "r");
}

std::string finish(FILE* from, pid_t child, const std::string& what) {
  std::string text;
  char part[4096];
  for (size_t got; (got = std::fread(part, 1, sizeof part, from)) > 0;)
    text.append(part, got);
  std::fclose(from);
  int status = 0;
  ::waitpid(child, &status, 0);
  must(WIFEXITED(status) && WEXITSTATUS(status) == 0, what + " failed: " + text);
  return text;
}

/// MiB/s of a round of ours.
double varve_round(const settings& x) {
  pid_t child = 0;
  auto* out = start({"/proc/self/exe", "--sink", "--address", x.address, "--bytes", std::to_string(x.bytes)}, child);
  unsigned port = 0;
  must(std::fscanf(out, "%u", &port) == 1, "the sink does not begin");
  auto mine = x;
  mine.port = static_cast<uint16_t>(port);
  nlohmann::json result;
  {
    source from{mine};
    from.run();
    result = from.figures();
  }
  finish(out, child, "the sink");
  must(result["wrong"] == 0, "blocks arrived wrong");
  return result["bytes"].get<double>() / result["seconds"].get<double>() / (1 << 20);
}

/// MiB/s of a round of ib_write_bw, whose table's fourth column that is.
double perftest_round(const settings& x) {
  std::vector<std::string> args{"ib_write_bw", "-F", "-s", std::to_string(x.bytes), "-n", std::to_string(x.writes)};
  if (!x.device.empty())
    args.insert(args.end(), {"-d", x.device});
  if (x.gid >= 0)
    args.insert(args.end(), {"-x", std::to_string(x.gid)});
  pid_t server = 0, client = 0;
  auto* served = start(args, server);
  std::this_thread::sleep_for(std::chrono::seconds{1}); // it listens
  args.push_back(x.address);
  auto* asked = start(args, client);
  const auto text = finish(asked, client, "ib_write_bw");
  finish(served, server, "ib_write_bw's server");
  std::istringstream lines{text};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words{line};
    double bytes = 0, iterations = 0, peak = 0, average = 0;
    if (words >> bytes >> iterations >> peak >> average && bytes == static_cast<double>(x.bytes))
      return average;
  }
  throw std::runtime_error("ib_write_bw says nothing of its bandwidth: " + text);
}

} // namespace

int rdma_bench(int argc, char** argv) {
  CLI::App app{"Memory to memory by RDMA, checked, beside perftest's ib_write_bw."};
  settings x;
  bool is_sink = false;
  app.add_option("--address", x.address, "of this machine's RDMA device")->required();
  app.add_option("--device", x.device, "for ib_write_bw");
  app.add_option("--gid", x.gid, "for ib_write_bw: the index of the address's GID");
  app.add_option("--rounds", x.rounds)->check(CLI::Range(1, 1000));
  app.add_option("--writes", x.writes, "of a round")->check(CLI::Range(5, 1000000));
  app.add_option("--bytes", x.bytes, "of a write")->check(CLI::Range(size_t{1} << 20, size_t{8} << 20));
  app.add_flag("--sink", is_sink, "is the other end; what this starts");
  CLI11_PARSE(app, argc, argv);
  must(source_bytes % x.bytes == 0, "--bytes: a power of two");
  if (is_sink) {
    sink end{x};
    std::cout << end.number() << std::endl;
    end.run();
    return end.wrong() == 0 ? 0 : 1;
  }
  nlohmann::json result{{"varve", nlohmann::json::array()}, {"perftest", nlohmann::json::array()}, {"bytes", x.bytes}};
  for (unsigned i = 0; i < x.rounds; ++i) {
    result["varve"].push_back(varve_round(x));
    result["perftest"].push_back(perftest_round(x));
  }
  std::cout << result.dump() << "\n";
  return 0;
}

} // namespace varve::bench

int main(int argc, char** argv) {
  try {
    return varve::bench::rdma_bench(argc, argv);
  } catch (const std::exception& e) {
    std::cerr << "rdma_bench: " << e.what() << "\n";
    return 1;
  }
}
