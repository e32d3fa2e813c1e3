#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace varve::cli {

/// Beside this program, else where `further` says (relative to this program's folder), else in $PATH; empty: nowhere.
std::string find_program(const std::string& name, const std::string& further = {});

/// Starts a program that outlives this one: in a session of its own, without input, what it says appended to a file
/// (0600). 0 with a problem.
pid_t start_daemon(const std::vector<std::string>& words, const std::string& log, std::string& problem);

/// Who holds the lock of a node's folder; 0: nobody. -1: somebody who has not said who.
pid_t holder_of(const std::string& folder);

/// Of a child: it has ended, with this wait status.
bool has_ended(pid_t child, int& status);
/// "ended with exit code 2", "was ended by signal 9".
std::string how_it_ended(int status);

/// Asks again every 50 ms; false when it does not become true in time.
bool wait_until(std::chrono::nanoseconds limit, const std::function<bool()>& done);

/// The last lines of a file, for people.
std::string last_lines(const std::string& file, size_t lines_max);

} // namespace varve::cli
