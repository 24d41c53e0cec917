/* Losses and rates are those of the newest report (run.log_every); counters are of now. */
#include "server/parameter/prometheus.h"

static void write_counters(const struct step_report_counters *c, const struct run_config *config, struct exposition *x)
{
    exposition_single(x, "decant_images_total", "counter", "Images whose gradients were applied.",
                      (double)c->applied_slots * (double)config->run.slot_size);
    exposition_single(x, "decant_leases_expired_total", "counter",
                      "Leases taken back, by time or because the worker went away.", (double)c->leases_expired);
    exposition_single(x, "decant_workers_lost_total", "counter", "Workers that fell silent without a goodbye.",
                      (double)c->workers_lost);
    exposition_single(x, "decant_steps_skipped_total", "counter",
                      "Updates not made because the summed gradient overflowed.", (double)c->steps_skipped);
}

static void write_losses(const struct step_report *r, struct exposition *x)
{
    exposition_single(x, "decant_loss", "gauge", "Loss, mean over the slots of a step.", r->loss);
    exposition_single(x, "decant_loss_consistency", "gauge", "Its consistency term.", r->consistency);
    exposition_single(x, "decant_loss_entropy", "gauge", "Its entropy term.", r->entropy);
    exposition_single(x, "decant_loss_mean_entropy", "gauge",
                      "Entropy of the student's mean softmax, nats; 0 when the loss does not have it.",
                      r->mean_entropy);
    exposition_single(x, "decant_loss_coding_rate", "gauge",
                      "Coding rate of the student's embeddings, nats; 0 when the loss does not have it.",
                      r->coding_rate);
    exposition_single(x, "decant_loss_feature_rate", "gauge",
                      "Coding rate of the student's features, nats; 0 when the loss does not have it.",
                      r->feature_rate);
    exposition_single(x, "decant_learning_rate", "gauge", "Learning rate of the step.", r->lr);
    exposition_single(x, "decant_teacher_momentum", "gauge", "Momentum of the teacher's average.", r->ema);
    exposition_single(x, "decant_gradient_norm", "gauge", "Global norm of the gradient before clipping.", r->grad_norm);
}

static void write_shares(const struct step_report *r, struct exposition *x)
{
    exposition_family(x, "decant_worker_time_ratio", "gauge", "Shares of the time that workers spent computing.");
    exposition_value(x, r->augment, "part=\"augment\"");
    exposition_value(x, r->forward, "part=\"forward\"");
    exposition_value(x, r->backward, "part=\"backward\"");
    exposition_value(x, r->estep, "part=\"estep\"");
}

void parameter_metrics_write(const struct parameter_core *core, const struct run_config *config, struct exposition *x)
{
    const struct step_report *r = parameter_core_newest_report(core);
    write_counters(parameter_core_counters(core), config, x);
    if (r->step == 0)
        return; /* none yet */
    if (r->epoch >= 0)
        exposition_single(x, "decant_epoch", "gauge", "Passes over the data.", r->epoch);
    write_losses(r, x);
    write_shares(r, x);
}
