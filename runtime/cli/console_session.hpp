#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "runtime/cli/session.hpp"
#include "runtime/console/command_line.hpp"
#include "runtime/console/completion.hpp"

namespace varve::cli {

struct console_options {
  /// Also send and kill.
  bool allow_write = false;
  /// A person is there: prompt, redrawing, and going on after failures.
  bool interactive = false;
  /// The terminal shows UTF-8.
  bool utf8 = true;
  /// Of one request; an actor that does not answer is shown as silent long before.
  std::chrono::nanoseconds timeout{std::chrono::seconds{10}};
};

/// One run of the console: carries commands out over a connection of its own, and makes a new one when the node came
/// back. Without allow_write its connections are read-only at the node too.
class console_session : private console::vocabulary {
public:
  console_session(session& s, console_options options) : session_(s), options_(options) {}

  /// Carries out the commands of one line; the first that fails ends it with its exit code.
  int run(const std::string& line);
  /// Asks for lines until `quit` or their end.
  int interact();
  bool over() const { return over_; }

  /// Set by Ctrl-C: ends what repeats itself.
  static std::atomic<bool> interrupted;

private:
  int carry_out(const console::command& x);
  int tree(const std::string& path);
  int inspect(const std::string& path);
  int watch(const console::command& x);
  int watch_once(const std::string& what);
  int send(const console::command& x);
  int kill(const std::string& path);
  int help(const std::string& about);
  int migrations();
  int events();

  /// Prints data: as one line of JSON, or as text.
  void show(const nlohmann::json& x, const std::string& text) const;
  int refuse_write(const std::string& command) const;

  /// Connects, if that has to be; false with a failure told.
  bool connected();
  /// Asks; once again with a new connection when the old one is lost, if asking twice changes nothing.
  template <class T, class F>
  caf::expected<T> ask(F f, bool may_repeat = true);
  std::string absolute(const std::string& path);

  // What completion asks; quietly.
  std::string node() override { return node_name_; }
  std::vector<std::string> paths() override;
  std::vector<actor_message> messages(const std::string& path) override;
  std::vector<std::string> volumes() override;
  std::vector<std::string> tiers() override;

  session& session_;
  console_options options_;
  std::unique_ptr<rpc_client> client_;
  std::string node_name_;
  bool over_ = false;
};

} // namespace varve::cli
