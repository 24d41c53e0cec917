// One EM iteration of Armadillo's gmm_diag in float32 from given means, variances 1/D and weights 1/K, one thread (no OpenMP).
// For tests/bench/bench_mixture.py, which builds it. Usage: ROWS.f32 MEANS.f32 N K D OUT.f32
#include <armadillo>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>

static arma::fmat read_floats(const char *path, arma::uword rows, arma::uword columns)
{
    arma::fmat x(rows, columns);
    std::ifstream f(path, std::ios::binary);
    if (!f.read(reinterpret_cast<char *>(x.memptr()), std::streamsize(x.n_elem * sizeof(float)))) {
        std::fprintf(stderr, "%s does not have %llu floats\n", path, static_cast<unsigned long long>(x.n_elem));
        std::exit(1);
    }
    return x;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    const arma::uword N = arma::uword(std::atol(argv[3])), K = arma::uword(std::atol(argv[4])), D = arma::uword(std::atol(argv[5]));
    const arma::fmat x = read_floats(argv[1], D, N), means = read_floats(argv[2], D, K);
    arma::fmat variances(D, K);
    variances.fill(1.0f / float(D));
    arma::frowvec weights(K);
    weights.fill(1.0f / float(K));
    arma::fgmm_diag model;
    model.set_params(means, variances, weights);
    const double loglik = model.avg_log_p(x);
    const std::clock_t from = std::clock();
    model.learn(x, K, arma::maha_dist, arma::keep_existing, 0, 1, 1e-3f, false);
    const double seconds = double(std::clock() - from) / CLOCKS_PER_SEC;
    std::ofstream out(argv[6], std::ios::binary);
    out.write(reinterpret_cast<const char *>(model.means.memptr()), std::streamsize(model.means.n_elem * sizeof(float)));
    out.write(reinterpret_cast<const char *>(model.dcovs.memptr()), std::streamsize(model.dcovs.n_elem * sizeof(float)));
    std::printf("{\"seconds\": %.6f, \"loglik\": %.9g}\n", seconds, loglik);
    return out ? 0 : 1;
}
