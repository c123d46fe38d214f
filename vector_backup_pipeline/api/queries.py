"""The GraphQL queries."""

JOBS = """
query VectorBackupJobs {
  repositoriesOrError {
    __typename
    ... on RepositoryConnection { nodes { name location { name } pipelines { name } } }
    ... on PythonError { message }
  }
}
"""

LAUNCH = """
mutation VectorBackupLaunch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PipelineNotFoundError { message }
    ... on InvalidSubsetError { message }
    ... on RunConflict { message }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}
"""

RUNS_WITH_TAG = """
query VectorBackupRunsWithTag($tag: ExecutionTag!) {
  runsOrError(filter: {tags: [$tag]}, limit: 1) {
    __typename
    ... on Runs { results { runId status } }
    ... on PythonError { message }
  }
}
"""

STATUSES = """
query VectorBackupStatuses($runs: [String]!) {
  runsOrError(filter: {runIds: $runs}) {
    __typename
    ... on Runs { results { runId status } }
    ... on PythonError { message }
  }
}
"""

# The run comes first, so its events are at least as new as its status.
RUN = """
query VectorBackupRun($run: ID!, $after: String) {
  runOrError(runId: $run) {
    __typename
    ... on Run { jobName status creationTime startTime endTime }
    ... on PythonError { message }
  }
  logsForRun(runId: $run, afterCursor: $after) {
    __typename
    ... on EventConnection {
      cursor
      hasMore
      events {
        __typename
        ... on StepEvent { stepKey }
        ... on EngineEvent { metadataEntries { ...entry } }
        ... on ExecutionStepOutputEvent { metadataEntries { ...entry } }
        ... on ExecutionStepFailureEvent { failureMetadata { metadataEntries { ...entry } } }
      }
    }
    ... on PythonError { message }
  }
}
fragment entry on MetadataEntry {
  label
  __typename
  ... on JsonMetadataEntry { jsonString }
  ... on TextMetadataEntry { text }
  ... on IntMetadataEntry { intRepr }
  ... on FloatMetadataEntry { floatValue }
  ... on BoolMetadataEntry { boolValue }
}
"""

TERMINATE = """
mutation VectorBackupTerminate($run: String!) {
  terminateRun(runId: $run) {
    __typename
    ... on TerminateRunFailure { message }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}
"""

HEALTH = """
query VectorBackupHealth {
  version
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
}
"""
