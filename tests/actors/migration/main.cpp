#define BOOST_TEST_MODULE migration
#include <boost/test/unit_test.hpp>
