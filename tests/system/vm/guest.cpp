// varve_vm_guest: the first and only process of a test's virtual machine. It loads the drivers of its disk, stamps and
// verifies blocks of it, and says on the serial console what it sees. Options come from the kernel's command line as
// varve.NAME=VALUE (load_options); commands come by the console, a line each:
//   fill    writes each block           -> "filled"
//   go      works                       -> "going"
//   hold    stops working               -> "stamps FIRST SEQUENCE.." for each 16 blocks, "held"
//   sweep   reads each block, while held -> "swept WRONG"
//   stop    turns the machine off
// All the time: "at MS OPERATIONS LONGEST_US FAILED MISMATCHES", whenever operations were done, MS of the guest's
// clock.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <type_traits>

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "tests/system/vm/guest_load.hpp"

using namespace varve::vm;

namespace {

std::mutex console_mutex;

/// A line to the console, whole. Any thread.
void say(const std::string& text) {
  const auto line = "guest: " + text + "\n";
  std::lock_guard lock(console_mutex);
  for (size_t at = 0; at < line.size();) {
    const auto done = ::write(STDOUT_FILENO, line.data() + at, line.size() - at);
    if (done <= 0)
      return;
    at += static_cast<size_t>(done);
  }
}

[[noreturn]] void turn_off() {
  ::sync();
  ::reboot(RB_POWER_OFF);
  for (;;)
    ::pause();
}

[[noreturn]] void give_up(const std::string& why) {
  say("cannot begin: " + why);
  turn_off();
}

void mount_at(const char* what, const char* path) {
  ::mkdir(path, 0755);
  if (::mount(what, path, what, 0, nullptr) != 0 && errno != EBUSY)
    give_up(std::string(path) + ": " + std::strerror(errno));
}

/// Those that /modules/order names, in that order.
void load_modules() {
  std::ifstream order("/modules/order");
  for (std::string name; std::getline(order, name);) {
    const auto path = "/modules/" + name;
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0 || ::syscall(SYS_finit_module, file, "", 0) != 0)
      give_up(path + ": " + std::strerror(errno));
    ::close(file);
  }
}

/// A driver finds its disk some time after it was loaded.
void wait_for_disk(const std::string& path) {
  for (unsigned tries = 0; ::access(path.c_str(), R_OK) != 0; ++tries) {
    if (tries == 500)
      give_up(path + ": " + std::strerror(errno));
    ::usleep(20'000);
  }
}

load_options options_of_kernel() {
  std::map<std::string, std::string> words;
  std::ifstream line("/proc/cmdline");
  for (std::string word; line >> word;)
    if (const auto at = word.find('='); word.rfind("varve.", 0) == 0 && at != std::string::npos)
      words[word.substr(6, at - 6)] = word.substr(at + 1);
  load_options x;
  x.disk = "/dev/vda";
  auto take = [&](const char* name, auto& to) {
    if (auto found = words.extract(name))
      to = static_cast<std::remove_reference_t<decltype(to)>>(std::stoull(found.mapped()));
  };
  take("volume", x.volume);
  take("blocks", x.blocks);
  take("stride", x.stride_bytes);
  take("workers", x.workers);
  take("reads", x.reads_percent);
  take("flush-every", x.flush_every);
  take("think-us", x.think_us);
  if (!words.empty())
    give_up("no option is called " + words.begin()->first);
  if (x.workers == 0 || x.blocks < x.workers)
    give_up("each worker needs a block");
  return x;
}

/// Without echo, and without changing what is written.
void prepare_console() {
  termios mode;
  if (::tcgetattr(STDIN_FILENO, &mode) != 0)
    return;
  mode.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  mode.c_oflag &= ~static_cast<tcflag_t>(OPOST);
  ::tcsetattr(STDIN_FILENO, TCSANOW, &mode);
}

void tell_progress(guest_load& load) {
  const auto& c = load.counters();
  const auto began = std::chrono::steady_clock::now();
  for (uint64_t told = 0;;) {
    ::usleep(10'000);
    const auto done = c.reads + c.writes + c.flushes + c.failed;
    if (done == told)
      continue;
    told = done;
    const auto ms = (std::chrono::steady_clock::now() - began) / std::chrono::milliseconds{1};
    std::ostringstream text;
    text << "at " << ms << ' ' << done << ' ' << load.take_longest_wait() / 1000 << ' ' << c.failed << ' '
         << c.mismatches;
    say(text.str());
  }
}

void tell_stamps(const guest_load& load) {
  constexpr size_t in_line = 16;
  const auto& all = load.stamps();
  for (size_t first = 0; first < all.size(); first += in_line) {
    auto text = "stamps " + std::to_string(first);
    for (size_t i = first; i < std::min(first + in_line, all.size()); ++i)
      text += ' ' + std::to_string(all[i]);
    say(text);
  }
}

void obey(guest_load& load, const std::string& command) {
  if (command == "fill") {
    load.fill();
    say("filled");
  } else if (command == "go") {
    load.go();
    say("going");
  } else if (command == "hold") {
    load.hold();
    tell_stamps(load);
    say("held");
  } else if (command == "sweep") {
    say("swept " + std::to_string(load.sweep()));
  } else if (command == "stop") {
    load.hold();
    turn_off();
  } else {
    say("no such command: " + command);
  }
}

} // namespace

int main() {
  try {
    mount_at("devtmpfs", "/dev");
    mount_at("proc", "/proc");
    prepare_console();
    load_modules();
    const auto options = options_of_kernel();
    wait_for_disk(options.disk);
    guest_load load(options, say);
    load.start();
    std::thread([&load] { tell_progress(load); }).detach();
    say("ready");
    for (std::string command; std::getline(std::cin, command);)
      obey(load, command);
    give_up("the console has ended");
  } catch (const std::exception& e) {
    give_up(e.what());
  }
}
