#include <clocale>
#include <cstring>
#include <iostream>

#include <langinfo.h>
#include <unistd.h>

#include "runtime/cli/console_session.hpp"

namespace varve::cli {

void add_console(CLI::App& app, session& s) {
  auto* x = app.add_subcommand("console", "Look at the node's actors as they live: a prompt, or -c");
  auto allow_write = std::make_shared<bool>(false);
  auto commands = std::make_shared<std::string>();
  x->add_flag("--allow-write", *allow_write, "Also send and kill; the node notes it as an event");
  auto* given =
    x->add_option("-c,--commands", *commands, "Run these, separated by ';', and end; the first failure ends it")
      ->type_name("COMMANDS");
  x->footer("Commands: tree, inspect, watch, send, kill, help, quit. With --json each prints one line of JSON.");
  x->callback([allow_write, commands, given, &s] {
    console_options options;
    options.allow_write = *allow_write;
    std::setlocale(LC_CTYPE, "");
    options.utf8 = std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0;
    options.interactive = given->count() == 0 && ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
    console_session console{s, options};
    if (given->count() > 0) {
      s.exit = console.run(*commands);
    } else if (options.interactive) {
      s.exit = console.interact();
    } else {
      // A script: as -c, line by line.
      s.exit = success;
      for (std::string line; s.exit == success && !console.over() && std::getline(std::cin, line);)
        s.exit = console.run(line);
    }
  });
}

} // namespace varve::cli
