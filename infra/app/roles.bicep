// Who may do what: every role assignment there is. The database's roles are in migrations/core, not here.

@description('The identity that the function runs as.')
param functionPrincipalId string

@description('Who deploys.')
param deployerObjectId string
@allowed([
  'User'
  'Group'
  'ServicePrincipal'
])
param deployerType string

param storageName string
param keyVaultName string
param applicationInsightsName string

@description('Empty: there is none.')
param openaiName string

var storageBlobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var keyVaultSecretsUser = '4633458b-17de-408a-b874-0445c86b69e6'
var keyVaultSecretsOfficer = 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'
var cognitiveServicesOpenAIUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'

resource storage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: storageName
}

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' existing = {
  name: keyVaultName
}

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

resource openai 'Microsoft.CognitiveServices/accounts@2025-06-01' existing = if (!empty(openaiName)) {
  name: empty(openaiName) ? 'none' : openaiName
}

// Storage Blob Data Owner, for the function: the host keeps its locks and keys there and reads the package. It asks
// for owner, not contributor, and the account holds nothing else.
resource functionStorage 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, functionPrincipalId, storageBlobDataOwner)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataOwner)
    principalId: functionPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Key Vault Secrets User, for the function: reads the claim keys, and the other secrets where they are used.
resource functionSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, functionPrincipalId, keyVaultSecretsUser)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUser)
    principalId: functionPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Monitoring Metrics Publisher, for the function: writes requests and logs, since Application Insights takes no keys.
resource functionTelemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: applicationInsights
  name: guid(applicationInsights.id, functionPrincipalId, monitoringMetricsPublisher)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
    principalId: functionPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Cognitive Services OpenAI User, for the function: turns what is searched for into a vector.
resource functionEmbeddings 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(openaiName)) {
  scope: openai
  name: guid(openai.id, functionPrincipalId, cognitiveServicesOpenAIUser)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', cognitiveServicesOpenAIUser)
    principalId: functionPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Key Vault Secrets Officer, for who deploys: makes and rotates the secrets.
resource deployerSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, deployerObjectId, keyVaultSecretsOfficer)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsOfficer)
    principalId: deployerObjectId
    principalType: deployerType
  }
}

// Cognitive Services OpenAI User, for who deploys: `rowgate embed` runs where the deployment runs.
resource deployerEmbeddings 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(openaiName)) {
  scope: openai
  name: guid(openai.id, deployerObjectId, cognitiveServicesOpenAIUser)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', cognitiveServicesOpenAIUser)
    principalId: deployerObjectId
    principalType: deployerType
  }
}
