#include "runtime/cli/console_session.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>

#include <fmt/format.h>

#include "runtime/console/arguments.hpp"
#include "runtime/console/history.hpp"
#include "runtime/console/line_editor.hpp"
#include "runtime/console/rendering.hpp"

namespace varve::cli {

namespace {

using namespace std::chrono_literals;

/// Children of one actor that are drawn; a path of its own shows all.
constexpr uint32_t children_drawn = 24;
/// Those that completion knows.
constexpr uint32_t children_completed = 500;
constexpr uint32_t events_shown = 20;

} // namespace

std::atomic<bool> console_session::interrupted{false};

int console_session::run(const std::string& line) {
  std::string problem;
  const auto commands = console::split_commands(line, problem);
  if (!commands)
    return session_.fail(usage, "usage", problem);
  for (const auto& words : *commands) {
    const auto x = console::parse_command(words, problem);
    if (!x)
      return session_.fail(usage, "usage", problem);
    if (const int code = carry_out(*x); code != success)
      return code;
    std::fflush(stdout);
    if (over_)
      break;
  }
  return success;
}

int console_session::interact() {
  if (!connected())
    return session_.exit;
  struct sigaction on_interrupt {};
  on_interrupt.sa_handler = [](int) { interrupted = true; };
  // Not restarted: the read of a line ends with it.
  ::sigaction(SIGINT, &on_interrupt, nullptr);
  console::history history{console::default_history_path()};
  console::line_editor editor{node_name_ + (options_.allow_write ? "# " : "> "),
                              [this](std::string_view line) { return console::complete(line, *this); }};
  for (const auto& x : history.load())
    editor.remember(x);
  session_.say(fmt::format("varve console of node {}, {}; help says what can be typed", node_name_,
                           options_.allow_write ? "with send and kill" : "read-only"));
  if (!history.problem().empty())
    session_.say("no history is kept: " + history.problem());
  while (!over_) {
    std::string line;
    interrupted = false;
    const auto outcome = editor.read(line);
    if (outcome == console::line_editor::outcome::end)
      break;
    if (outcome == console::line_editor::outcome::interrupted) {
      std::fputs("\n", stdout);
      continue;
    }
    line.erase(line.find_last_not_of(" \t") + 1); // completion leaves one behind
    if (line.empty())
      continue;
    editor.remember(line);
    history.add(line);
    run(line); // what failed was told
    std::fflush(stdout);
  }
  if (!over_)
    std::fputs("\n", stdout);
  return success;
}

int console_session::carry_out(const console::command& x) {
  using console::verb;
  switch (x.what) {
  case verb::tree: return tree(x.path);
  case verb::inspect: return inspect(x.path);
  case verb::watch: return watch(x);
  case verb::send: return send(x);
  case verb::kill: return kill(x.path);
  case verb::help: return help(x.path);
  case verb::quit: over_ = true; return success;
  }
  return usage;
}

int console_session::tree(const std::string& path) {
  if (!connected())
    return session_.exit;
  const auto from = path.empty() ? std::string{"/"} : absolute(path);
  const auto rows =
    ask<std::vector<actor_row>>([&] { return client_->console_tree(from, path.empty() ? children_drawn : 0); });
  if (!rows)
    return session_.fail(rows.error());
  auto all = nlohmann::json::array();
  for (const auto& x : *rows)
    all.push_back(console::to_json(x));
  show({{"actors", all}}, console::draw_tree(*rows, {options_.utf8, !session_.no_headers}));
  return success;
}

int console_session::inspect(const std::string& path) {
  if (!connected())
    return session_.exit;
  const auto x = ask<actor_inspection>([&] { return client_->console_inspect(absolute(path)); });
  if (!x)
    return session_.fail(x.error());
  show(console::to_json(*x), console::draw_inspection(*x));
  return success;
}

int console_session::watch(const console::command& x) {
  if (x.count == 0 && !options_.interactive)
    return session_.fail(usage, "usage", "watch without an end: give --count N");
  const bool redraws = options_.interactive && !session_.json;
  for (uint64_t round = 0; x.count == 0 || round < x.count; ++round) {
    if (round > 0)
      for (auto left = x.every; left.count() > 0 && !interrupted;
           left -= std::min<std::chrono::nanoseconds>(left, 50ms))
        client_->sleep(std::min<std::chrono::nanoseconds>(left, 50ms));
    if (interrupted)
      break;
    if (redraws)
      std::fputs("\033[H\033[2J", stdout);
    else if (round > 0 && !session_.json)
      std::fputs("\n", stdout);
    if (const int code = watch_once(x.path); code != success)
      return code;
    std::fflush(stdout);
  }
  interrupted = false;
  return success;
}

int console_session::watch_once(const std::string& what) {
  if (what == "tree")
    return tree("");
  if (what == "migrations")
    return migrations();
  if (what == "events")
    return events();
  return inspect(what);
}

int console_session::send(const console::command& x) {
  if (!options_.allow_write)
    return refuse_write("send");
  if (!connected())
    return session_.exit;
  const auto path = absolute(x.path);
  const auto known = ask<std::vector<actor_message>>([&] { return client_->console_messages(path); });
  if (!known)
    return session_.fail(known.error());
  const actor_message* message = nullptr;
  std::string there;
  for (const auto& m : *known) {
    if (m.name == x.message)
      message = &m;
    there += (there.empty() ? "" : ", ") + console::usage_of(m);
  }
  if (!message)
    return session_.fail(
      make_error(errc::not_found, fmt::format("no message \"{}\" for {}; {}", x.message, path,
                                              there.empty() ? "it can be sent nothing" : "expected: " + there)));
  const auto arguments = console::read_arguments(*message, x.arguments);
  if (!arguments)
    return session_.fail(arguments.error());
  const auto answer = ask<actor_facts>([&] { return client_->console_send(path, x.message, *arguments); }, false);
  if (!answer)
    return session_.fail(answer.error());
  show({{"sent", x.message}, {"to", path}, {"answer", console::to_json(*answer)}},
       answer->empty() ? "done\n" : console::draw_facts(*answer));
  return success;
}

int console_session::kill(const std::string& path) {
  if (!options_.allow_write)
    return refuse_write("kill");
  if (!connected())
    return session_.exit;
  const auto at = absolute(path);
  const auto done = ask<bool>(
    [&]() -> caf::expected<bool> {
      if (auto e = client_->console_kill(at))
        return e;
      return true;
    },
    false);
  if (!done)
    return session_.fail(done.error());
  show({{"killed", at}}, "killed " + at + "\n");
  return success;
}

int console_session::help(const std::string& about) {
  const bool command_only = about.empty();
  auto described = nlohmann::json::array();
  table t{{"COMMAND", "WHAT"}};
  for (const auto& x : console::commands())
    if (command_only || about == x.name) {
      t.row({x.usage, x.about});
      described.push_back({{"command", x.name}, {"usage", x.usage}, {"about", x.about}});
    }
  if (!described.empty()) {
    show({{"commands", described}}, t.text(false));
    return success;
  }
  if (!connected())
    return session_.exit;
  const auto path = absolute(about);
  const auto messages = ask<std::vector<actor_message>>([&] { return client_->console_messages(path); });
  if (!messages)
    return session_.fail(messages.error());
  auto all = nlohmann::json::array();
  for (const auto& x : *messages)
    all.push_back(console::to_json(x));
  show({{"path", path}, {"messages", all}}, console::draw_messages(path, *messages));
  return success;
}

int console_session::migrations() {
  if (!connected())
    return session_.exit;
  const auto all = ask<std::vector<migration_progress>>([&] { return client_->migration_list(); });
  if (!all)
    return session_.fail(all.error());
  const auto names = session::volume_names(*client_);
  auto rows = nlohmann::json::array();
  for (const auto& x : *all) {
    const auto at = names.find(x.record.shard.volume.value());
    rows.push_back(cli::to_json(x, at == names.end() ? std::to_string(x.record.shard.volume.value()) : at->second));
  }
  show({{"migrations", rows}}, session_.json ? "" : migration_table(*client_, *all).text(!session_.no_headers));
  return success;
}

int console_session::events() {
  if (!connected())
    return session_.exit;
  const auto all = ask<std::vector<event>>([&] { return client_->events(events_shown); });
  if (!all)
    return session_.fail(all.error());
  auto rows = nlohmann::json::array();
  for (const auto& x : *all)
    rows.push_back(cli::to_json(x));
  show({{"events", rows}}, event_table(*all).text(!session_.no_headers));
  return success;
}

void console_session::show(const nlohmann::json& x, const std::string& text) const {
  if (session_.json)
    fmt::print("{}\n", x.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  else
    std::fputs(text.c_str(), stdout);
}

int console_session::refuse_write(const std::string& command) const {
  return session_.fail(make_error(errc::read_only, command + " changes things: start the console with --allow-write"));
}

bool console_session::connected() {
  if (client_ && !client_->lost())
    return true;
  // It brings an event loop, of which a thread has one.
  client_ = nullptr;
  session_.disconnected();
  client_ = session_.connect(options_.timeout);
  if (!client_)
    return false;
  auto refused = client_->console_open(options_.allow_write);
  if (!refused) {
    if (auto status = client_->status())
      node_name_ = status->node;
    else if (auto rows = client_->console_tree("/", 1); rows && !rows->empty())
      node_name_ = rows->front().info.path.substr(1); // who does not answer is what one looks for here
    else
      refused = status.error();
  }
  if (!refused)
    return true;
  session_.exit = session_.fail(refused);
  client_ = nullptr;
  session_.disconnected();
  return false;
}

template <class T, class F>
caf::expected<T> console_session::ask(F f, bool may_repeat) {
  auto x = f();
  if (x || !client_->lost() || !may_repeat)
    return x;
  if (!connected())
    return make_error(errc::unavailable, "the connection to the node is lost");
  return f();
}

std::string console_session::absolute(const std::string& path) {
  return console::resolve(node_name_, path);
}

std::vector<std::string> console_session::paths() {
  std::vector<std::string> all;
  if (client_ && !client_->lost())
    if (auto rows = client_->console_tree("/", children_completed))
      for (const auto& x : *rows)
        all.push_back(x.info.path);
  return all;
}

std::vector<actor_message> console_session::messages(const std::string& path) {
  if (client_ && !client_->lost())
    if (auto all = client_->console_messages(path))
      return *all;
  return {};
}

std::vector<std::string> console_session::volumes() {
  std::vector<std::string> all;
  if (client_ && !client_->lost())
    for (const auto& [id, name] : session::volume_names(*client_))
      all.push_back(name);
  return all;
}

std::vector<std::string> console_session::tiers() {
  std::vector<std::string> all;
  if (client_ && !client_->lost())
    if (auto tiers = client_->tier_list())
      for (const auto& x : *tiers)
        all.push_back(x.name);
  return all;
}

} // namespace varve::cli
